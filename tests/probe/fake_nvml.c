/* Plays libnvidia-ml.so.1 with two GPUs; $FAKE_NVML says how it goes wrong. Functions that it lacks give error 13. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is(const char *word) { const char *how = getenv("FAKE_NVML"); return how && !strcmp(how, word); }

int nvmlInitWithFlags(unsigned int flags) {
    if (is("noisy")) { printf("noise on stdout\n"); fflush(stdout); fprintf(stderr, "noise on stderr\n"); }
    if (is("unloaded")) return 9;
    if (is("hang")) sleep(600);
    if (is("spin")) for (;;) {}
    if (is("crash")) abort();
    return 0;
}
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "an error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned int size) { strncpy(text, "580.95.05", size); return 0; }
int nvmlSystemGetNVMLVersion(char *text, unsigned int size) { strncpy(text, "13.580.95", size); return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = is("many") ? 4000000000u : 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) {
    if (is("lost") && index == 1) return 15;
    *handle = (void *)(long)(index + 1);
    return index > 1 ? 2 : 0;
}
int nvmlDeviceGetUUID(void *handle, char *text, unsigned int size) {
    if (is("crash late") && handle == (void *)2) *(volatile int *)0 = 1;
    snprintf(text, size, "GPU-%ld", (long)handle);
    return 0;
}
int nvmlDeviceGetName(void *handle, char *text, unsigned int size) {
    strncpy(text, is("binary") ? "\xff\xfe \x1b[31m" : "NVIDIA H100", size);
    return 0;
}
int nvmlDeviceGetVbiosVersion(void *handle, char *text, unsigned int size) { strncpy(text, "96.00", size); return 0; }
int nvmlDeviceValidateInforom(void *handle) {
    if (is("slow flash")) sleep(2);
    return handle == (void *)2 ? 14 : 0;
}
