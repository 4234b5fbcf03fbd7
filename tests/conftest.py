import os

# As the command line does; read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
