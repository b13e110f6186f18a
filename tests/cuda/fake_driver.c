// A fake libcuda.so.1: two devices of capability 9.0 on which no kernel ever runs. It keeps books of
// what the real cuda.bindings and cuda-core ask of a driver, and copies each launch's parameters; copies
// between memories, streams and graphs (fake_streams.c) do what they say.
// Names and arguments: CUDA Driver API reference, 13.0.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { OK = 0, INVALID = 1, NO_CONTEXT = 201, NOT_FOUND = 500 };
enum { DEVICES = 2, DEPTH = 16, PARAMETERS = 32, NAME = 128 };
#define CONTEXT(device) ((void *)(uintptr_t)(0xC0 + (device)))
#define DEVICE_MEMORY 0xD0 // an address of device n begins with 0xD0 + n, 40 bits above the rest

#include "fake_streams.c"

static _Thread_local void *stack[DEPTH];
static _Thread_local int depth;
static char entry[NAME];
static int loads, finished, capture, refuse;
static char layout[PARAMETERS];
struct launch { void *function, *stream; unsigned geometry[7]; int64_t values[PARAMETERS]; int device; int count; };
static struct launch last;

// ---- what the tests ask of it
void fake_layout(const char *kinds) { strncpy(layout, kinds, PARAMETERS - 1); } // "ppi": pointers, int32
void fake_capture(int status) { capture = status; }
void fake_refuse(int status) { refuse = status; }
int fake_launches(void) { return last.count; }
int fake_finished(void) { return finished; }
int fake_loads(void) { return loads; }
int fake_device(void) { return last.device; }
int64_t fake_value(int i) { return last.values[i]; }
unsigned fake_geometry(int i) { return last.geometry[i]; }
void *fake_stream(void) { return last.stream; }
void *fake_function(void) { return last.function; }
const char *fake_entry(void) { return entry; }

// ---- the driver
int cuInit(unsigned flags) { return OK; }
int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
int cuDeviceGetCount(int *count) { *count = DEVICES; return OK; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return OK; }
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "fake"); return OK; }
int cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, device, 16); return OK; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 1; // COMPUTE_CAPABILITY_MAJOR, _MINOR
  return OK;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = CONTEXT(device); return OK; }
int cuDevicePrimaryCtxRelease_v2(int device) { return OK; }
int cuCtxGetCurrent(void **context) { *context = depth ? stack[depth - 1] : NULL; return OK; }
int cuCtxSetCurrent(void *context) { if (!depth) depth = 1; stack[depth - 1] = context; if (!context) depth--; return OK; }
int cuCtxPushCurrent_v2(void *context) { stack[depth++] = context; return OK; }
int cuCtxPopCurrent_v2(void **context) { *context = stack[--depth]; return OK; }
int cuCtxGetDevice(int *device) {
  if (!depth) return NO_CONTEXT;
  *device = (int)((uintptr_t)stack[depth - 1] - 0xC0);
  return OK;
}
int cuCtxGetDevice_v2(int *device, void *context) { *device = (int)((uintptr_t)context - 0xC0); return OK; }
int cuLibraryLoadData(void **library, const void *code, void *a, void *b, unsigned c, void *d, void *e, unsigned f) {
  if (memcmp(code, "\177ELF", 4)) return 200; // CUDA_ERROR_INVALID_IMAGE
  *library = (void *)(uintptr_t)(0x11B0 + ++loads);
  return OK;
}
int cuLibraryUnload(void *library) { return OK; }
int cuLibraryGetKernel(void **kernel, void *library, const char *name) {
  strncpy(entry, name, NAME - 1);
  *kernel = (void *)(0xF0000 + (uintptr_t)library);
  return OK;
}
int cuKernelGetFunction(void **function, void *kernel) {
  if (!depth) return NO_CONTEXT;
  *function = (void *)(0x1000000 + (uintptr_t)kernel);
  return OK;
}
int cuFuncLoad(void *function) { finished++; return OK; }
int cuStreamIsCapturing(void *stream, int *status) { *status = capture || fake_capturing(stream); return OK; }
int cuPointerGetAttribute(void *data, int attribute, uint64_t pointer) {
  int device = on_device(pointer) ? 0 : (int)(pointer >> 40) - DEVICE_MEMORY;
  if (device < 0 || device >= DEVICES) return INVALID;
  if (attribute == 2) *(unsigned *)data = 2; // MEMORY_TYPE: CU_MEMORYTYPE_DEVICE
  if (attribute == 9) *(int *)data = device; // DEVICE_ORDINAL
  return OK;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
  if (refuse) return refuse;
  unsigned geometry[7] = {gx, gy, gz, bx, by, bz, shared};
  memcpy(last.geometry, geometry, sizeof geometry);
  last.function = function;
  last.stream = stream;
  last.count++;
  if (cuCtxGetDevice(&last.device)) last.device = -1;
  for (int i = 0; layout[i]; i++)
    last.values[i] = layout[i] == 'p' ? *(int64_t *)parameters[i] : *(int32_t *)parameters[i];
  return OK;
}
struct config { unsigned grid[3], block[3], shared; void *stream, *attributes; unsigned count; };
int cuLaunchKernelEx(const struct config *c, void *function, void **parameters, void **extra) {
  return cuLaunchKernel(function, c->grid[0], c->grid[1], c->grid[2], c->block[0], c->block[1], c->block[2], c->shared,
                        c->stream, parameters, extra);
}
int cuGetErrorName(int status, const char **text) { *text = status == 701 ? "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES" : "CUDA_ERROR"; return OK; }
int cuGetErrorString(int status, const char **text) { *text = "made up"; return OK; }

int cuGetProcAddress_v2(const char *name, void **address, int version, uint64_t flags, int *status) {
  char versioned[NAME];
  snprintf(versioned, NAME, "%s_v2", name);
  Dl_info own;
  dladdr(cuGetProcAddress_v2, &own);
  void *self = dlopen(own.dli_fname, RTLD_NOLOAD | RTLD_LAZY);
  *address = strcmp(name, "cuCtxGetDevice") ? dlsym(self, versioned) : NULL;
  if (!*address) *address = dlsym(self, name);
  if (status) *status = *address ? 0 : 1;
  return *address ? OK : NOT_FOUND;
}
int cuGetProcAddress(const char *name, void **address, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, address, version, flags, NULL);
}
