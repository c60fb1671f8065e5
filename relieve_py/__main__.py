"""``python -m relieve_py`` is the command ``relieve``."""

from relieve_py.cli import main

if __name__ == "__main__":
    main()
