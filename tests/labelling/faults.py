"""Python code that the process of `sslpipe label` runs first, so that its disk fails."""

SLOW = """
import os, time
fsync = os.fsync
os.fsync = lambda file: (time.sleep(0.3), fsync(file))
"""
FULL = """
import errno, os
from pathlib import Path
write = os.write
def limited(file, data):
    if bytes(data[:5]) == b'{"id"' and Path("../full").exists():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return write(file, data)
os.write = limited
"""
READ_ONLY = """
import errno, os
import sslpipe.labelling.address
def refuse(**_):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
sslpipe.labelling.address.TemporaryFile = refuse
"""
