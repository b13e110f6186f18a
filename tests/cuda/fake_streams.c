// Memory, streams and graphs of the fake driver; fake_driver.c includes this file.
//
// Device memory is the host's. Work on a stream waits in a queue until somebody waits for it, as late as
// a driver may run it, so that a missing wait shows. Freed memory is overwritten and never used again.
#include <stdlib.h>

enum { STREAMS = 64, BLOCKS = 4096, GRAPHS = 256 };
enum { CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, OUT_OF_MEMORY = 2 };

struct op { void *to; const void *from; size_t size; void (*call)(void); };
struct queue { struct op *ops; int count; };
struct stream { int used, capturing, spoilt, id; struct queue queue, captured; };
struct block { char *at; size_t size; int pinned, live; };

static struct stream streams[STREAMS];
static struct queue graphs[GRAPHS];
static struct block blocks[BLOCKS];
static int block_count, graph_count, live_graphs, replays, graph_refusal;
static size_t free_bytes = (size_t)8 << 30;

static void push(struct queue *queue, struct op op) {
  queue->ops = realloc(queue->ops, (queue->count + 1) * sizeof op);
  queue->ops[queue->count++] = op;
}
static struct stream *stream_of(void *handle) {
  struct stream *s = handle;
  return s >= streams && s < streams + STREAMS && s->used ? s : NULL;
}
static int add(void *handle, struct op op) {
  struct stream *s = stream_of(handle);
  if (!s) return INVALID; // the default stream is not for sessions
  push(s->capturing ? &s->captured : &s->queue, op);
  return OK;
}
static void drain(struct stream *s) {
  struct queue now = s->queue;
  s->queue = (struct queue){0};
  for (int i = 0; i < now.count; i++) {
    struct op op = now.ops[i];
    if (op.call) op.call();
    else memcpy(op.to, op.from, op.size);
  }
  free(now.ops);
}
static void drain_all(void) {
  for (int i = 0; i < STREAMS; i++) if (streams[i].used) drain(streams + i);
}
static int forbidden(void) { // what the capture modes call unsafe
  int found = 0;
  for (int i = 0; i < STREAMS; i++)
    if (streams[i].used && streams[i].capturing) found = streams[i].spoilt = 1;
  return found;
}

// ---- what the tests and the fake TensorRT ask of it
int fake_enqueue(void *stream, void (*call)(void)) { return add(stream, (struct op){.call = call}); }
void fake_drain(void *stream) { if (stream_of(stream)) drain(stream); }
int fake_capturing(void *stream) { return stream_of(stream) ? stream_of(stream)->capturing : 0; }
void fake_spoil(void *stream) { if (stream_of(stream)) stream_of(stream)->spoilt = 1; }
void fake_free_bytes(size_t bytes) { free_bytes = bytes; }
void fake_refuse_graph(int status) { graph_refusal = status; }
int fake_replays(void) { return replays; }
int fake_live(int pinned) { // blocks
  int found = 0;
  for (int i = 0; i < block_count; i++) found += blocks[i].live && blocks[i].pinned == pinned;
  return found;
}
int fake_live_graphs(void) { return live_graphs; }
int fake_live_streams(void) { int n = 0; for (int i = 0; i < STREAMS; i++) n += streams[i].used; return n; }
int fake_pending(void) { int n = 0; for (int i = 0; i < STREAMS; i++) n += streams[i].queue.count; return n; }

// ---- memory
static int take(void **at, size_t size, int pinned) {
  if (forbidden()) return CAPTURE_UNSUPPORTED;
  if (!size || block_count == BLOCKS) return INVALID;
  if (size > free_bytes) return OUT_OF_MEMORY;
  char *found = aligned_alloc(256, (size + 255) / 256 * 256);
  memset(found, 0xCD, size);
  blocks[block_count++] = (struct block){found, size, pinned, 1};
  *at = found;
  return OK;
}
static int give(void *at, int pinned) {
  if (forbidden()) return CAPTURE_UNSUPPORTED;
  drain_all(); // as the real calls wait
  for (int i = 0; i < block_count; i++)
    if (blocks[i].at == at && blocks[i].live && blocks[i].pinned == pinned) {
      memset(at, 0xDD, blocks[i].size);
      blocks[i].live = 0;
      return OK;
    }
  return INVALID;
}
static int on_device(uint64_t pointer) {
  for (int i = 0; i < block_count; i++)
    if (!blocks[i].pinned && (char *)pointer >= blocks[i].at && (char *)pointer < blocks[i].at + blocks[i].size) return 1;
  return 0;
}
int cuMemAlloc_v2(void **at, size_t size) { return take(at, size, 0); }
int cuMemFree_v2(void *at) { return give(at, 0); }
int cuMemHostAlloc(void **at, size_t size, unsigned flags) { return take(at, size, 1); }
int cuMemFreeHost(void *at) { return give(at, 1); }
int cuMemGetInfo_v2(size_t *available, size_t *total) { *available = free_bytes; *total = (size_t)16 << 30; return OK; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)16 << 30; return OK; }
int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t size, void *stream) {
  return add(stream, (struct op){to, from, size});
}
int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t size, void *stream) {
  return add(stream, (struct op){to, from, size});
}
int cuMemcpyHtoD_v2(void *to, const void *from, size_t size) { memcpy(to, from, size); return OK; }
int cuMemcpyDtoH_v2(void *to, const void *from, size_t size) { memcpy(to, from, size); return OK; }

// ---- streams and graphs
int cuStreamCreate(void **stream, unsigned flags) {
  for (int i = 0; i < STREAMS; i++)
    if (!streams[i].used) {
      streams[i] = (struct stream){.used = 1};
      *stream = streams + i;
      return OK;
    }
  return OUT_OF_MEMORY;
}
int cuStreamDestroy_v2(void *stream) {
  struct stream *s = stream_of(stream);
  if (!s) return INVALID;
  drain(s);
  s->used = 0;
  return OK;
}
int cuStreamSynchronize(void *stream) {
  struct stream *s = stream_of(stream);
  if (!s) return INVALID;
  if (s->capturing) { s->spoilt = 1; return CAPTURE_UNSUPPORTED; }
  drain(s);
  return OK;
}
int cuCtxSynchronize(void) { drain_all(); return OK; }
int cuStreamBeginCapture_v2(void *stream, int mode) {
  struct stream *s = stream_of(stream);
  if (!s || s->capturing) return INVALID;
  s->capturing = 1;
  s->spoilt = 0;
  s->captured = (struct queue){0};
  return OK;
}
int cuStreamEndCapture(void *stream, void **graph) {
  struct stream *s = stream_of(stream);
  *graph = NULL;
  if (!s || !s->capturing) return INVALID;
  s->capturing = 0;
  if (s->spoilt) return CAPTURE_INVALIDATED;
  graphs[graph_count] = s->captured;
  *graph = graphs + graph_count++;
  live_graphs++;
  return OK;
}
int cuGraphInstantiate(void **made, void *graph, unsigned long long flags) {
  if (graph_refusal) return graph_refusal;
  graphs[graph_count] = *(struct queue *)graph;
  *made = graphs + graph_count++;
  live_graphs++;
  return OK;
}
int cuGraphInstantiateWithFlags(void **made, void *graph, unsigned long long flags) {
  return cuGraphInstantiate(made, graph, flags);
}
int cuGraphLaunch(void *graph, void *stream) {
  struct queue *found = graph;
  replays++;
  for (int i = 0; i < found->count; i++)
    if (add(stream, found->ops[i])) return INVALID;
  return OK;
}
int cuGraphDestroy(void *graph) { live_graphs--; return OK; }
int cuGraphExecDestroy(void *graph) { live_graphs--; return OK; }
