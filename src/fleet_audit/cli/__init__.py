# SPDX-License-Identifier: Apache-2.0
"""The command line: one module per subcommand, each with `command`; found by looking through this package."""
