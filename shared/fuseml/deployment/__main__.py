"""`task deploy` and `task undeploy`: `python -m fuseml.deployment deploy`."""

from __future__ import annotations

import os
import sys

from fuseml.deployment import command

if __name__ == "__main__":
    sys.exit(command.main(sys.argv[1:], os.environ))
