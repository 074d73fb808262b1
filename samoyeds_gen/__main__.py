"""`python -m samoyeds_gen` is `samoyeds-gen`."""

from samoyeds_gen.cli import main

if __name__ == "__main__":
    main()
