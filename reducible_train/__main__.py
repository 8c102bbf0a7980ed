"""`python -m reducible_train`: the command line."""

from reducible_train.cli import main

if __name__ == "__main__":
    main()
