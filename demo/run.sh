#!/bin/sh
# Audits this very machine, then the recorded fleet beside this script. Asks nothing, needs no network
# and no GPU, and changes nothing but its own folder. What the audits find is no failure of the demo.
set -eu
cd "$(dirname "$0")/.."

store=.cache/demo
# Only what an earlier demo left there is removed, so that the numbers are the same each time.
if ! { rm -rf "$store" && mkdir -p "$store" && test -w "$store"; } 2>/dev/null; then
    store=$(mktemp -d)
fi

# Exit status 0, 1 and 3 say what was found; 2 and 4 say that nothing was audited.
audit() {
    status=0
    "$@" </dev/null || status=$?
    case $status in 0 | 1 | 3) ;; *) exit "$status" ;; esac
}

echo '== This machine, read through the local transport'
echo
audit fleet-audit run --store "$store/this-machine" -f html -o "$store/this-machine.html"

echo
echo '== The demo fleet, nine recorded nodes of demo/inventory.ini (all synthetic)'
echo
audit fleet-audit collect demo/inventory.ini --store "$store/fleet"
echo
# The recorded nodes are of one moment. Ages are measured at it, whenever the demo runs.
audit fleet-audit evaluate --as-of 2026-11-24T06:00:00 --store "$store/fleet" -f html -o "$store/fleet.html"

echo
echo '== Reports, each one file for a browser'
echo "   this machine   $store/this-machine.html"
echo "   demo fleet     $store/fleet.html"
echo
echo "Next: fleet-audit explain train-02 ssh-root-login-restricted --store $store/fleet"
