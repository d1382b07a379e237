import subprocess
import sys

import pytest

CODE = """
import resource, sys, torch
from tunesmith.models.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def touch():
    for _ in range(60):
        torch.ones(2**24, dtype=torch.uint8)
        torch.ones(2**25 + 2**24, dtype=torch.uint8)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_freed_memory_is_used_again_without_asking_the_system() -> None:
    """Large tensors made and freed over and over cost new pages each time, or, once it is kept, next to none."""
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", CODE, how], timeout=120))
        for how in ("keep", "give")
    }
    assert faults["keep"] < 100
    assert faults["give"] > 50 * faults["keep"] + 1000
