"""Says which sandbox level this machine gives, and fails where it is lower than the file that is named demands.

Tests that need walls are skipped where there are none: on a machine that checks changes that would be a silent pass.
"""

import sys
from pathlib import Path

from ml_intern.sandbox.levels import Level, probe

minimum = Level[Path(sys.argv[1]).read_text().strip().upper()]
found = probe()
print(f"sandbox level: {found.level.name.lower()}; needed here: {minimum.name.lower()}")
for line in (*found.reasons, *found.remedies):
    print(f"  {line}")
sys.exit(found.level < minimum)
