"""A program that ends with the exit code it is given."""

import sys

sys.exit(int(sys.argv[1]))
