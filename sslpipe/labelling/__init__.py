"""The page of `sslpipe label`: groups get names, images get labels, and both are on disk at once."""
