import numpy as np

from sslpipe.data.store import UNKNOWN
from sslpipe.sources.digits import Settings, Source


def test_digits():
    source = Source(Settings())
    assert source.classes == tuple("0123456789")
    assert len(source.entries) == 1797
    assert {entry.part for entry in source.entries} == {None}
    assert UNKNOWN not in {entry.label for entry in source.entries}
    pictures = np.stack([source.load(i) for i in range(1797)])
    assert pictures.dtype == np.uint8
    assert pictures.shape == (1797, 8, 8)
    assert sorted(set(pictures.ravel().tolist())) == [round(v * 255 / 16) for v in range(17)]
