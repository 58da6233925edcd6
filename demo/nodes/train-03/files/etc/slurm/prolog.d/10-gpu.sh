#!/bin/sh
# synthetic
nvidia-smi --query-gpu=ecc.errors.uncorrected.volatile.total --format=csv >/dev/null
