"""`python -m thinned` runs the command line."""

from thinned.cli import main

if __name__ == "__main__":
    main(prog_name="python -m thinned")
