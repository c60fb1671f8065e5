"""``python -m relieve_py.child CHANNEL PAGE``: the start of a spawned child; both are inherited descriptors."""

import sys

from relieve_py.child.runtime import main

if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
