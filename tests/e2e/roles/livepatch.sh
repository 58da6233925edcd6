# checks: livepatch-enabled
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
pro_client
pro disable livepatch
