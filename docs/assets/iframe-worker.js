// A browser starts no worker for a page that was opened from disk: there the search runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.loaded = new Promise((loaded) => {
        this.frame.addEventListener("load", () => this.load(url, loaded), { once: true })
      })
      document.body.append(this.frame)
    }

    load(url, loaded) {
      const inside = this.frame.contentWindow
      inside.postMessage = (message) => {
        const data = structuredClone(message)
        setTimeout(() => this.onmessage?.({ data }))
      }
      const script = inside.document.createElement("script")
      script.src = url
      script.onload = loaded
      script.onerror = (event) => this.onerror?.(event)
      inside.document.head.append(script)
    }

    postMessage(message) {
      const data = structuredClone(message)
      this.loaded.then(() => this.frame.contentWindow?.onmessage({ data }))
    }

    terminate() {
      this.frame.remove()
    }
  }
}
