// SPDX-License-Identifier: MIT
/* Single-producer single-consumer rings of fixed records, drained by one writer thread. */
#include "base/trace.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"

#define RING_RECORDS 4096u /* power of two */
#define DRAIN_NS     5000000

struct record {
	u64 ns;
	const struct trace_event *event;
	u64 arg[TRACE_ARGS];
};

struct trace_buffer {
	struct list link;
	u32 tid;
	char track[32];
	_Alignas(64) u64 head; /* written by the producer, read by the writer */
	_Alignas(64) u64 tail; /* the other way round */
	struct record ring[RING_RECORDS];
};

struct trace {
	FILE *file;
	bool json;
	bool first; /* no event written yet: JSON commas */
	int error;
	u64 start_ns;
	pthread_t writer;
	pthread_mutex_t lock; /* guards: buffers, next_tid, stop, file */
	pthread_cond_t wake;
	bool stop;
	u32 next_tid;
	struct list buffers;
};

bool trace_on;
static struct trace *current;
static u32 generation; /* of current: a thread's buffer dies with the trace it was made for */
static _Thread_local struct trace_buffer *own_buffer;
static _Thread_local u32 own_generation;
static _Thread_local char own_track[32];

static u64 monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

static bool is_json(const char *path)
{
	size_t n = strlen(path);

	return n >= 5 && !strcmp(path + n - 5, ".json");
}

static const char *arg_word(const struct trace_arg *a, u64 value)
{
	return a->word ? a->word(value) : NULL;
}

/* "msr.write SIMP": the event's name, and the word of its first named argument. */
static const char *event_label(const struct record *r)
{
	for (u32 i = 0; i < TRACE_ARGS && r->event->arg[i].name; i++) {
		const char *w = arg_word(&r->event->arg[i], r->arg[i]);

		if (w)
			return w;
	}
	return NULL;
}

static void write_text(struct trace *t, const struct trace_buffer *b, const struct record *r)
{
	u64 ns = r->ns - t->start_ns;

	fprintf(t->file, "%llu.%09llu %s %s.%s", (unsigned long long)(ns / 1000000000u),
		(unsigned long long)(ns % 1000000000u), b->track, r->event->category,
		r->event->name);
	for (u32 i = 0; i < TRACE_ARGS && r->event->arg[i].name; i++) {
		const struct trace_arg *a = &r->event->arg[i];
		const char *w = arg_word(a, r->arg[i]);

		if (w)
			fprintf(t->file, " %s=%s", a->name, w);
		else
			fprintf(t->file, a->hex ? " %s=0x%llx" : " %s=%llu", a->name,
				(unsigned long long)r->arg[i]);
	}
	fputc('\n', t->file);
}

static void write_json(struct trace *t, const struct trace_buffer *b, const struct record *r)
{
	static const char *const phases[] = {
		[TRACE_INSTANT] = "i", [TRACE_BEGIN] = "B", [TRACE_END] = "E"
	};
	const char *label = event_label(r);
	u64 ns = r->ns - t->start_ns;

	fprintf(t->file,
		"%s{\"name\":\"%s%s%s\",\"cat\":\"%s\",\"ph\":\"%s\",\"pid\":1,\"tid\":%u,"
		"\"ts\":%llu.%03llu",
		t->first ? "" : ",\n", r->event->name, label ? " " : "", label ? label : "",
		r->event->category, phases[r->event->phase], b->tid,
		(unsigned long long)(ns / 1000), (unsigned long long)(ns % 1000));
	if (r->event->phase == TRACE_INSTANT)
		fputs(",\"s\":\"t\"", t->file);
	fputs(",\"args\":{", t->file);
	for (u32 i = 0; i < TRACE_ARGS && r->event->arg[i].name; i++) {
		const struct trace_arg *a = &r->event->arg[i];
		const char *w = arg_word(a, r->arg[i]);

		fprintf(t->file, "%s\"%s\":", i ? "," : "", a->name);
		if (w)
			fprintf(t->file, "\"%s\"", w);
		else
			fprintf(t->file, a->hex ? "\"0x%llx\"" : "%llu",
				(unsigned long long)r->arg[i]);
	}
	fputs("}}", t->file);
	t->first = false;
}

static void write_track_json(struct trace *t, const struct trace_buffer *b)
{
	fprintf(t->file,
		"%s{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%u,\"args\":{\"name\":"
		"\"%s\"}}",
		t->first ? "" : ",\n", b->tid, b->track);
	t->first = false;
}

static void drain_locked(struct trace *t)
{
	struct list *pos;

	list_for_each(pos, &t->buffers) {
		struct trace_buffer *b = list_entry(pos, struct trace_buffer, link);
		u64 head = __atomic_load_n(&b->head, __ATOMIC_ACQUIRE);

		for (u64 i = b->tail; i != head; i++) {
			const struct record *r = &b->ring[i % RING_RECORDS];

			if (t->json)
				write_json(t, b, r);
			else
				write_text(t, b, r);
		}
		__atomic_store_n(&b->tail, head, __ATOMIC_RELEASE);
	}
	if (ferror(t->file))
		t->error = -EIO;
}

static void *writer_thread(void *arg)
{
	struct trace *t = arg;

	pthread_mutex_lock(&t->lock);
	while (!t->stop) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += DRAIN_NS;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		pthread_cond_timedwait(&t->wake, &t->lock, &until);
		drain_locked(t);
	}
	drain_locked(t);
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

int trace_start(const char *path)
{
	struct trace *t;
	int ret;

	if (current)
		return -EBUSY;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	*t = (struct trace){ .json = is_json(path), .first = true, .start_ns = monotonic_ns() };
	list_init(&t->buffers);
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->wake, NULL);
	t->file = fopen(path, "we");
	if (!t->file) {
		ret = -errno;
		goto free;
	}
	if (t->json)
		fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n", t->file);
	ret = -pthread_create(&t->writer, NULL, writer_thread, t);
	if (ret)
		goto close;
	current = t;
	generation++;
	trace_on = true;
	return 0;
close:
	fclose(t->file);
free:
	pthread_mutex_destroy(&t->lock);
	pthread_cond_destroy(&t->wake);
	free(t);
	return ret;
}

int trace_stop(void)
{
	struct trace *t = current;
	struct list *node;
	int ret;

	if (!t)
		return 0;
	trace_on = false;
	current = NULL;
	pthread_mutex_lock(&t->lock);
	t->stop = true;
	pthread_cond_signal(&t->wake);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->writer, NULL);
	if (t->json)
		fputs("\n]}\n", t->file);
	ret = t->error;
	if (fclose(t->file) != 0)
		ret = -errno;
	while ((node = list_pop(&t->buffers)))
		free(list_entry(node, struct trace_buffer, link));
	pthread_mutex_destroy(&t->lock);
	pthread_cond_destroy(&t->wake);
	free(t);
	return ret;
}

void trace_name_thread(const char *track)
{
	snprintf(own_track, sizeof(own_track), "%s", track);
}

static struct trace_buffer *buffer_create(struct trace *t)
{
	struct trace_buffer *b = aligned_alloc(64, align_up(sizeof(*b), 64));

	if (!b)
		return NULL;
	b->head = b->tail = 0;
	pthread_mutex_lock(&t->lock);
	b->tid = ++t->next_tid;
	if (own_track[0])
		memcpy(b->track, own_track, sizeof(b->track));
	else
		snprintf(b->track, sizeof(b->track), "thread %u", b->tid);
	list_add_tail(&t->buffers, &b->link);
	if (t->json)
		write_track_json(t, b);
	pthread_mutex_unlock(&t->lock);
	own_buffer = b;
	own_generation = generation;
	return b;
}

void trace_emit_slow(const struct trace_event *ev, const u64 args[TRACE_ARGS])
{
	struct trace_buffer *b = own_generation == generation ? own_buffer : NULL;
	struct record *r;
	u64 head;

	if (!b)
		b = buffer_create(current);
	if (!b)
		return;
	head = b->head;
	r = &b->ring[head % RING_RECORDS];
	while (head - __atomic_load_n(&b->tail, __ATOMIC_ACQUIRE) >= RING_RECORDS) {
		pthread_cond_signal(&current->wake);
		usleep(200);
	}
	r->ns = monotonic_ns();
	r->event = ev;
	memcpy(r->arg, args, sizeof(r->arg));
	__atomic_store_n(&b->head, head + 1, __ATOMIC_RELEASE);
}
