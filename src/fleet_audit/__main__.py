# SPDX-License-Identifier: Apache-2.0
"""`python -m fleet_audit`: the command line."""

from fleet_audit.cli.main import main

if __name__ == "__main__":
    main()
