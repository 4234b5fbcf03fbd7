"""Pools of random operations by the names that settings give them."""

from collections.abc import Mapping
from typing import Literal

from sslpipe.views.ctaugment_operations import CTAUGMENT, CTAUGMENT_CODE
from sslpipe.views.fixmatch_operations import FIXMATCH, FIXMATCH_CODE
from sslpipe.views.operations import Pool
from sslpipe.views.scan_operations import SCAN, SCAN_CODE

PoolName = Literal["scan", "scan_code", "fixmatch", "fixmatch_code", "ctaugment", "ctaugment_code"]
POOLS: Mapping[PoolName, Pool] = {
    "scan": SCAN,
    "scan_code": SCAN_CODE,
    "fixmatch": FIXMATCH,
    "fixmatch_code": FIXMATCH_CODE,
    "ctaugment": CTAUGMENT,
    "ctaugment_code": CTAUGMENT_CODE,
}
