from hypothesis import given
from hypothesis import strategies as st

from sslpipe.data.seeds import RandomStream, mix


def test_neighbouring_numbers_give_unlike_seeds():
    seeds = {mix(a, b, c) for a in range(20) for b in range(20) for c in range(20)}
    assert len(seeds) == 8000
    flipped = [(mix(0, n) ^ mix(0, n + 1)).bit_count() for n in range(200)]
    assert 28 < sum(flipped) / 200 < 35


@given(st.lists(st.integers(0, 2**63), min_size=1, max_size=4))
def test_a_seed_fits_every_generator(numbers):
    assert 0 <= mix(*numbers) < 2**63


def test_the_first_value_of_splitmix64():
    # Output of splitmix64 seeded with 0 (Steele et al. 2014), less its lowest bit.
    assert mix(0) == 0xE220A8397B1DCDAF >> 1


def test_the_numbers_of_random_streams_never_change():
    # They are part of every seed, and so of every result.
    assert [int(stream) for stream in RandomStream] == [1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 24, 30, 31, 32, 33, 40]
    assert mix(5, RandomStream.KMEANS_SAMPLE) == mix(5, 21)
