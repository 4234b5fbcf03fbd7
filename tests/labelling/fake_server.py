"""A server that answers the page of `sslpipe label` by its contract, with a small state in memory."""

import io
import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from sslpipe.labelling.page_files import assets, page

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"


class Project:
    """Groups and labels in memory; every action is kept whole, and undo does all the others again."""

    def __init__(self, groups=10, of_each=40, *, names=(), title="photos", pictures=None):
        self.title, self.pictures = title, pictures
        self.first = {g: list(range(g, groups * of_each, groups)) for g in range(groups)}
        self.names = dict(enumerate(names))
        self.count = groups * of_each
        self.actions, self.ids, self.version, self.pages = [], set(), 1, 1
        self.notes, self.results, self.asked = [], [], None
        self.run_state = {
            "state": "idle",
            "lines": [],
            "seconds": 0.0,
            "command": "dvc repro",
            "can": True,
            "why": None,
        }
        self.change = {"before": "names of the groups", "after": None, "of": self.count, "changed": 0, "rows": []}
        self.change["note"] = "Nothing has been run yet."
        self.doubtful = {}
        self.replay()

    def replay(self):
        self.groups = {g: list(images) for g, images in self.first.items()}
        self.code = {g: str(g) for g in self.groups}
        self.name = {g: self.names.get(g, "") for g in self.groups}
        self.label, self.how, self.left = {}, {}, {}
        self.used = dict.fromkeys(n for n in self.name.values() if n)
        self.aside = []
        for action in self.actions:
            self.do(action)

    def act(self, action):
        """Do an action once; returns its message, or raises ValueError for one that is refused."""
        if action["id"] in self.ids:
            return None
        if action["do"] == "undo":
            if not self.actions:
                raise ValueError("nothing is left to undo")
            self.actions.pop()
            self.replay()
            message = "undone"
        else:
            message = self.do(action)
            self.actions.append(action)
        self.ids.add(action["id"])
        self.version += 1
        return message

    def do(self, action):
        do, group = action["do"], action.get("group")
        if do in {"name", "merge", "split", "confirm"} and group not in self.groups:
            raise ValueError(f"no group {group}")
        if do == "name":
            if action["name"].lower() in {"unknown", "none"}:
                raise ValueError(f"name: {action['name']!r} means that there is no label")
            old, self.name[group] = self.name[group], action["name"]
            for image in self.groups[group]:
                if self.how.get(image) in {"move", "confirm"}:
                    self.label[image] = action["name"]
            return (
                f"‘{old}’ has labels and no group now"
                if old and old in self.label.values()
                else self.use(action["name"])
            )
        if do == "merge":
            self.groups[action["into"]] += self.groups.pop(group)
            self.code[action["into"]] += f" + {self.code[group]}"
            return f"merged into group {self.code[action['into']]}"
        if do == "split":
            images, new = self.groups[group], max(self.groups) + 1
            self.groups[group], self.groups[new] = images[::2], images[1::2]
            self.name[new] = self.name[group]
            self.code[group], self.code[new] = self.code[group] + "a", self.code[group] + "b"
            return None
        if do in {"move", "confirm"}:
            if do == "confirm" and not self.name[group]:
                raise ValueError("the group has no name")
            for image in action["images"]:
                self.put(image, group, do)
            return f"{len(action['images'])} images: done"
        if do == "answer":
            self.left[action["image"]] = action.get("why")
            if action["label"] is not None:
                self.label[action["image"]], self.how[action["image"]] = action["label"], "answer"
                self.use(action["label"])
        if do == "rename":
            self.name = {g: action["to"] if n == action["class"] else n for g, n in self.name.items()}
            self.label = {i: action["to"] if n == action["class"] else n for i, n in self.label.items()}
            self.use(action["to"])
        return None

    def use(self, name):
        if name:
            self.used.setdefault(name)

    def put(self, image, group, how):
        for images in [*self.groups.values(), self.aside]:
            if image in images and images is not self.groups.get(group):
                images.remove(image)
        target = self.aside if group is None else self.groups[group]
        if image not in target:
            target.append(image)
        self.label.pop(image, None)
        if group is not None and self.name[group]:
            self.label[image], self.how[image] = self.name[group], how

    def state(self):
        ordered = sorted(self.first | self.groups, key=lambda g: -len(self.first.get(g, [])))
        labels = list(self.label.values())
        classes = [n for n in self.used if n in labels or n in self.name.values()]
        last = self.actions[-1] if self.actions else None
        return {
            "version": self.version, "pages": self.pages, "title": self.title, "side": 32,
            "images": {"train": self.count, "held_out": 20}, "model": "runs/self-label", "kind": "groups",
            "groups": [
                {"id": g, "code": self.code[g], "name": self.name[g], "count": len(self.groups[g]),
                 "labelled": sum(i in self.label for i in self.groups[g]), "first": self.groups[g][:24]}
                for g in ordered if g in self.groups
            ],
            "aside": len(self.aside),
            "classes": [{"name": n, "groups": sum(n == self.name[g] for g in self.groups), "labels": labels.count(n),
                         "held_out": 0} for n in classes],
            "answers": {"given": len(labels), "train": len(labels), "held_out": 0, "none": 0, "unsure": 0},
            "undo": last and " ".join(str(last.get(k)) for k in ("do", "name", "label") if last.get(k)),
            "classifier": None, "advice": None, "results": self.results, "run": self.run_state, "notes": self.notes,
            "files": {"labels": "labels.csv", "clusters": "clusters.csv"},
        }  # fmt: skip

    def group(self, word):
        images = self.aside if word == "aside" else self.groups[int(word)]
        return {
            "id": -1 if word == "aside" else int(word),
            "images": images,
            "confidence": [None] * len(images),
            "label": [self.label.get(i) for i in images],
            "how": [self.how.get(i) for i in images],
        }

    def questions(self):
        def question(image):
            group = next((g for g, images in self.groups.items() if image in images), None)
            doubt = self.doubtful.get(image)
            near = [{"image": (image + 10 * n) % self.count, "similarity": 0.9 - 0.05 * n} for n in range(1, 6)]
            return {
                "image": image, "kind": "doubtful" if doubt else "uncertain", "held_out": False, "group": group,
                "reason": f"uncertain: between group {group} and another", "label": doubt,
                "group_name": self.name.get(group, ""), "suggested": self.name.get(group) or None,
                "neighbors": [{**n, "label": self.label.get(n["image"])} for n in near],
            }  # fmt: skip

        order = self.asked if self.asked is not None else range(self.count)
        open_ = [i for i in order if i not in self.left and (i not in self.label or i in self.doubtful)]
        return {"questions": [question(i) for i in open_[:10]], "note": None if open_ else "no more questions: all"}

    def run(self, state):
        lines = ["$ dvc repro", "Running stage 'propagation'"]
        self.run_state = {**self.run_state, "state": state, "lines": lines, "seconds": 3.0}
        self.version += 1

    def picture(self, image):
        """Bytes of a picture: a colour of its own, or a file of the given list."""
        if self.pictures:
            return self.pictures[image % len(self.pictures)].read_bytes()
        out = io.BytesIO()
        Image.new("RGB", (8, 8), (image * 37 % 256, image * 91 % 256, image * 13 % 256)).save(out, "PNG")
        return out.getvalue()


class FakeServer:
    """Serves a project below /TOKEN/ on a free port of 127.0.0.1, in a thread.

    received: every action that was posted, in order, also those that failed.
    fail: what the next posts get: a status, "before" (no reply, and not done) or "after" (done, and no reply).
    down: no request is answered.
    """

    def __init__(self, project, port=0):
        self.project, self.received, self.fail, self.down, self.delay = project, [], [], False, 0.0
        self.lock = threading.RLock()
        self.server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (Handler,), {"fake": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/TOKEN/"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    fake: FakeServer

    def log_message(self, *_):
        pass

    def answer(self, body, media="application/json", status=200):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        headers = {"Content-Type": media, "Content-Length": len(content), "Content-Security-Policy": POLICY}
        if media.startswith("image/"):
            headers["Cache-Control"] = "private, max-age=3600"
        for key, value in headers.items():
            self.send_header(key, str(value))
        with suppress(ConnectionError):  # a page that was left
            self.end_headers()
            self.wfile.write(content)

    def do_GET(self):
        fake, project = self.fake, self.fake.project
        address = urlsplit(self.path)
        words = address.path.removeprefix("/TOKEN/").split("/")
        with fake.lock:
            if fake.down:
                return self.close()
            if words == [""]:
                return self.answer(page(project.title).encode("utf-8", "replace"), "text/html; charset=utf-8")
            if words[0] == "assets" and words[-1] in assets():
                return self.answer(assets()[words[-1]].read_bytes(), f"{guess_type(words[-1])[0]}; charset=utf-8")
            if words[0] == "state":
                since = parse_qs(address.query).get("since", [""])[0]
                state = project.state()
                short = {key: state[key] for key in ("version", "pages", "run")}
                return self.answer(short if since == str(project.version) else state)
            if words[0] == "group" and (words[1] == "aside" or int(words[1]) in project.groups):
                return self.answer(project.group(words[1]))
            if words[0] in {"questions", "changes"}:
                return self.answer(project.questions() if words[0] == "questions" else project.change)
            if words[0] in {"thumb", "image"}:
                media = "image/jpeg" if project.pictures else "image/png"
                return self.answer(project.picture(int(words[1])), media)
        return self.answer({"error": f"nothing at {address.path}"}, status=404)

    def do_POST(self):
        fake, project = self.fake, self.fake.project
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        word = self.path.removeprefix("/TOKEN/")
        assert self.headers["Content-Type"] == "application/json"
        time.sleep(fake.delay)
        with fake.lock:
            if fake.down:
                return self.close()
            if word in {"run", "stop"}:
                project.run("running" if word == "run" else "stopped")
                return self.answer({"message": None, "state": project.state()})
            fake.received.append(body)
            failure = fake.fail.pop(0) if fake.fail else None
            if isinstance(failure, int):
                return self.answer({"error": "labels.csv: no space left on the disk"}, status=failure)
            if failure == "before":
                return self.close()
            try:
                message = project.act(body)
            except (ValueError, KeyError) as error:
                return self.answer({"error": str(error)}, status=400)
            if failure == "after":
                return self.close()
            return self.answer({"message": message, "state": project.state()})

    def close(self):
        """End without a reply, as a server does that is gone."""
        self.close_connection = True
        self.connection.close()
        self.wfile = io.BytesIO()
