# SPDX-License-Identifier: Apache-2.0
"""NVML, in a child of its own."""

import os
import sys
import time

from fleet_audit.probe.node.base import dump, text


NVML_SYSTEM = (
    ("driver_version", "nvmlSystemGetDriverVersion", ()),
    ("nvml_version", "nvmlSystemGetNVMLVersion", ()),
    ("cuda_driver_version", "nvmlSystemGetCudaDriverVersion_v2", ()),
    ("cc_state", "nvmlSystemGetConfComputeState", ()),
    ("cc_capabilities", "nvmlSystemGetConfComputeCapabilities", ()),
    ("cc_ready", "nvmlSystemGetConfComputeGpusReadyState", ()),
)
NVML_DEVICE = (
    ("uuid", "nvmlDeviceGetUUID", ()),
    ("name", "nvmlDeviceGetName", ()),
    ("pci", "nvmlDeviceGetPciInfo", ()),
    ("vbios", "nvmlDeviceGetVbiosVersion", ()),
    ("inforom_image", "nvmlDeviceGetInforomImageVersion", ()),
    ("gsp_version", "nvmlDeviceGetGspFirmwareVersion", ()),
    ("gsp_mode", "nvmlDeviceGetGspFirmwareMode", ()),
    ("ecc", "nvmlDeviceGetEccMode", ()),
    ("ecc_uncorrected_volatile", "nvmlDeviceGetTotalEccErrors", (1, 0)),
    ("ecc_uncorrected_aggregate", "nvmlDeviceGetTotalEccErrors", (1, 1)),
    ("remapped_rows", "nvmlDeviceGetRemappedRows", ()),
    ("mig", "nvmlDeviceGetMigMode", ()),
    ("persistence", "nvmlDeviceGetPersistenceMode", ()),
    ("virtualization", "nvmlDeviceGetVirtualizationMode", ()),
    ("architecture", "nvmlDeviceGetArchitecture", ()),
    ("compute_mode", "nvmlDeviceGetComputeMode", ()),
    ("board_part", "nvmlDeviceGetBoardPartNumber", ()),
    ("compute_processes", "nvmlDeviceGetComputeRunningProcesses", ()),
    ("graphics_processes", "nvmlDeviceGetGraphicsRunningProcesses", ()),
)
# Reading flash takes 68 ms of CPU for each GPU (docs/decisions/0005): last of all, and no longer than this for a node.
INFOROM_S = 1.5


def plain(value):
    """An NVML value as JSON: bytes as text, structures by their fields."""
    if isinstance(value, bytes):
        return text(value)
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "_fields_"):
        return {name: plain(getattr(value, name)) for name, _ in value._fields_}
    if hasattr(value, "__dict__") and not isinstance(value, (int, float, str)):
        return {k: plain(v) for k, v in vars(value).items() if not k.startswith("_")}
    return value


def nvml(source, out):
    """A line of JSON per call, unbuffered, so that a crash loses only the rest."""
    import types

    module = sys.modules["pynvml"] = types.ModuleType("pynvml")
    exec(compile(source, "pynvml", "exec"), module.__dict__)

    def call(row, function, *args):
        try:
            row["value"] = plain(getattr(module, function)(*args))
        except module.NVMLError as error:
            row["error"] = error.value
        except Exception as error:
            row["error"] = "%s: %s" % (type(error).__name__, error)
        os.write(out, dump(row) + b"\n")
        return row

    def cc_settings():
        settings = module.c_nvmlSystemConfComputeSettings_v1_t()
        module._nvmlCheckReturn(module.nvmlSystemGetConfComputeSettings(module.byref(settings)))
        return settings

    module.cc_settings = cc_settings  # the module's own wrapper wants a structure to fill
    begun = call({"scope": "system", "name": "init"}, "nvmlInit")
    if "error" in begun:
        raise RuntimeError("nvmlInit gives error %s" % begun["error"])  # not `ok`: nvidia-smi is asked instead
    call({"scope": "system", "name": "cc_settings"}, "cc_settings")
    for name, function, args in NVML_SYSTEM:
        call({"scope": "system", "name": name}, function, *args)
    count = call({"scope": "system", "name": "count"}, "nvmlDeviceGetCount").get("value") or 0
    handles = {}
    for index in range(min(count, 64)):
        try:
            handle = module.nvmlDeviceGetHandleByIndex(index)
        except module.NVMLError as error:
            os.write(out, dump({"scope": "gpu", "index": index, "name": "handle", "error": error.value}) + b"\n")
            continue
        handles[index] = handle
        for name, function, args in NVML_DEVICE:
            call({"scope": "gpu", "index": index, "name": name}, function, handle, *args)
    begun = time.monotonic()
    for index, handle in handles.items():
        if time.monotonic() - begun < INFOROM_S:
            call({"scope": "gpu", "index": index, "name": "inforom_valid"}, "nvmlDeviceValidateInforom", handle)
    os.write(out, dump({"scope": "system", "name": "end", "value": True}) + b"\n")
