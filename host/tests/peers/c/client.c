/*
 * Each kind of operation through ZooKeeper's C client (libzookeeper_mt), with what Apache ZooKeeper answers.
 *
 *   client <host:port>
 *
 * Exit code 0 if all of it came out as it should.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <zookeeper/zookeeper.h>

#define EVENT_SECONDS_MAX 20
#define EVENTS_MAX 64
#define SESSION_MS 20000

/* Ends the program at the first difference, naming the line. */
#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);  \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

#define CHECK_CODE(call, expected)                                                   \
    do {                                                                             \
        int code_ = (call);                                                          \
        if (code_ != (expected)) {                                                   \
            fprintf(stderr, "%s:%d: expected %d (%s), found %d (%s): %s\n",          \
                    __FILE__, __LINE__, (expected), zerror(expected), code_,         \
                    zerror(code_), #call);                                           \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

struct event {
    int type;
    int state;
    char path[256];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct event events[EVENTS_MAX];
static int events_count;
static int events_taken;

static void on_event(zhandle_t *zh, int type, int state, const char *path, void *context)
{
    (void)zh;
    (void)context;
    pthread_mutex_lock(&mutex);
    CHECK(events_count < EVENTS_MAX);
    events[events_count].type = type;
    events[events_count].state = state;
    snprintf(events[events_count].path, sizeof events[0].path, "%s", path ? path : "");
    events_count++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

#define expect_event(type, path) expect_event_at(__LINE__, type, path)

/* Waits for the next event, which must be this one. */
static void expect_event_at(int line, int type, const char *path)
{
    struct timespec end;
    struct event *event;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += EVENT_SECONDS_MAX;
    pthread_mutex_lock(&mutex);
    while (events_taken == events_count) {
        if (pthread_cond_timedwait(&changed, &mutex, &end) != 0) {
            fprintf(stderr, "line %d: no event, expected %d at %s\n", line, type, path);
            exit(1);
        }
    }
    event = &events[events_taken++];
    if (event->type != type || strcmp(event->path, path) != 0) {
        fprintf(stderr, "line %d: expected event %d at %s, found %d at %s\n", line, type, path,
                event->type, event->path);
        exit(1);
    }
    pthread_mutex_unlock(&mutex);
}

static void expect_no_event(void)
{
    pthread_mutex_lock(&mutex);
    CHECK(events_taken == events_count);
    pthread_mutex_unlock(&mutex);
}

static zhandle_t *connect_to(const char *address, const clientid_t *id)
{
    zhandle_t *zh = zookeeper_init(address, on_event, SESSION_MS, id, NULL, 0);
    CHECK(zh != NULL);
    expect_event(ZOO_SESSION_EVENT, "");
    CHECK(zoo_state(zh) == ZOO_CONNECTED_STATE);
    return zh;
}

static void expect_data(zhandle_t *zh, const char *path, const char *data, int length)
{
    char buffer[256];
    int size = sizeof buffer;
    struct Stat stat;

    CHECK_CODE(zoo_get(zh, path, 0, buffer, &size, &stat), ZOK);
    CHECK(size == length);
    CHECK(length <= 0 || memcmp(buffer, data, (size_t)length) == 0);
    CHECK(stat.dataLength == (length < 0 ? 0 : length));
}

static void creates(zhandle_t *zh)
{
    const struct ACL_vector *open = &ZOO_OPEN_ACL_UNSAFE;
    const clientid_t *me = zoo_client_id(zh);
    char path[128];
    struct Stat stat;

    CHECK_CODE(zoo_create(zh, "/c", "root", 4, open, ZOO_PERSISTENT, path, sizeof path), ZOK);
    CHECK(strcmp(path, "/c") == 0);
    expect_data(zh, "/c", "root", 4);
    CHECK_CODE(zoo_create(zh, "/c", "x", 1, open, ZOO_PERSISTENT, path, sizeof path), ZNODEEXISTS);
    CHECK_CODE(zoo_create(zh, "/none/x", "x", 1, open, ZOO_PERSISTENT, path, sizeof path), ZNONODE);
    CHECK_CODE(zoo_create(zh, "no-slash", "x", 1, open, ZOO_PERSISTENT, path, sizeof path), ZBADARGUMENTS);

    CHECK_CODE(zoo_create(zh, "/c/null", NULL, -1, open, ZOO_PERSISTENT, path, sizeof path), ZOK);
    expect_data(zh, "/c/null", NULL, -1);
    CHECK_CODE(zoo_create(zh, "/c/empty", "", 0, open, ZOO_PERSISTENT, path, sizeof path), ZOK);
    expect_data(zh, "/c/empty", "", 0);

    CHECK_CODE(zoo_create(zh, "/c/s-", "a", 1, open, ZOO_PERSISTENT_SEQUENTIAL, path, sizeof path), ZOK);
    CHECK(strcmp(path, "/c/s-0000000002") == 0);
    CHECK_CODE(zoo_create(zh, "/c/e", "a", 1, open, ZOO_EPHEMERAL, path, sizeof path), ZOK);
    CHECK_CODE(zoo_exists(zh, "/c/e", 0, &stat), ZOK);
    CHECK(stat.ephemeralOwner == me->client_id);
    CHECK_CODE(zoo_create(zh, "/c/e/x", "", 0, open, ZOO_PERSISTENT, path, sizeof path),
               ZNOCHILDRENFOREPHEMERALS);
    CHECK_CODE(zoo_create2(zh, "/c/es-", "ab", 2, open, ZOO_EPHEMERAL_SEQUENTIAL, path, sizeof path, &stat), ZOK);
    CHECK(strcmp(path, "/c/es-0000000004") == 0);
    CHECK(stat.ephemeralOwner == me->client_id && stat.version == 0 && stat.dataLength == 2);
    CHECK(stat.czxid == stat.mzxid && stat.czxid == stat.pzxid && stat.ctime == stat.mtime);

    CHECK_CODE(zoo_create2(zh, "/c/container", "", 0, open, ZOO_CONTAINER, path, sizeof path, &stat), ZOK);
    CHECK(stat.ephemeralOwner == 0); /* what marks a container or a time to live is not shown */
    CHECK_CODE(zoo_create_ttl(zh, "/c/ttl", "", 0, open, ZOO_PERSISTENT_WITH_TTL, 60000, path, sizeof path), ZOK);
    CHECK_CODE(zoo_create2_ttl(zh, "/c/ttl-", "", 0, open, ZOO_PERSISTENT_SEQUENTIAL_WITH_TTL, 60000, path,
                               sizeof path, &stat), ZOK);
    CHECK(strcmp(path, "/c/ttl-0000000007") == 0);
    CHECK(stat.ephemeralOwner == 0);
}

static void changes(zhandle_t *zh)
{
    struct Stat stat;
    int64_t created;

    CHECK_CODE(zoo_exists(zh, "/c/empty", 0, &stat), ZOK);
    created = stat.czxid;
    CHECK_CODE(zoo_set2(zh, "/c/empty", "full", 4, 0, &stat), ZOK);
    CHECK(stat.version == 1 && stat.czxid == created && stat.mzxid > created && stat.dataLength == 4);
    CHECK_CODE(zoo_set(zh, "/c/empty", "x", 1, 0), ZBADVERSION);
    CHECK_CODE(zoo_set(zh, "/c/empty", "again", 5, -1), ZOK);
    CHECK_CODE(zoo_set(zh, "/c/none", "x", 1, -1), ZNONODE);
    expect_data(zh, "/c/empty", "again", 5);

    CHECK_CODE(zoo_delete(zh, "/c", -1), ZNOTEMPTY);
    CHECK_CODE(zoo_delete(zh, "/c/null", 7), ZBADVERSION);
    CHECK_CODE(zoo_delete(zh, "/c/null", 0), ZOK);
    CHECK_CODE(zoo_delete(zh, "/c/null", -1), ZNONODE);
    CHECK_CODE(zoo_exists(zh, "/c/null", 0, &stat), ZNONODE);
}

static int has(const struct String_vector *names, const char *name)
{
    for (int i = 0; i < names->count; i++) {
        if (strcmp(names->data[i], name) == 0) {
            return 1;
        }
    }
    return 0;
}

static void children(zhandle_t *zh)
{
    struct String_vector names;
    struct Stat stat;

    CHECK_CODE(zoo_get_children(zh, "/c", 0, &names), ZOK);
    CHECK(names.count == 7);
    CHECK(has(&names, "empty") && has(&names, "e") && has(&names, "es-0000000004") && has(&names, "container"));
    CHECK(!has(&names, "null"));
    deallocate_String_vector(&names);
    CHECK_CODE(zoo_get_children2(zh, "/c", 0, &names, &stat), ZOK);
    CHECK(names.count == 7 && stat.numChildren == 7 && stat.cversion == 9);
    deallocate_String_vector(&names);
    CHECK_CODE(zoo_get_children(zh, "/c/empty", 0, &names), ZOK);
    CHECK(names.count == 0);
    CHECK_CODE(zoo_get_children(zh, "/none", 0, &names), ZNONODE);
}

struct completion {
    int done;
    int code;
    char value[256];
};

static void finish(struct completion *completion, int code, const char *value)
{
    pthread_mutex_lock(&mutex);
    completion->done = 1;
    completion->code = code;
    snprintf(completion->value, sizeof completion->value, "%s", value ? value : "");
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

static void on_done(int code, const void *data)
{
    finish((struct completion *)data, code, NULL);
}

static void on_string(int code, const char *value, const void *data)
{
    finish((struct completion *)data, code, value);
}

static void wait_for(struct completion *completion)
{
    struct timespec end;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += EVENT_SECONDS_MAX;
    pthread_mutex_lock(&mutex);
    while (!completion->done) {
        CHECK(pthread_cond_timedwait(&changed, &mutex, &end) == 0);
    }
    pthread_mutex_unlock(&mutex);
}

static void synchronises(zhandle_t *zh)
{
    struct completion completion = {0};

    CHECK_CODE(zoo_async(zh, "/c", on_string, &completion), ZOK);
    wait_for(&completion);
    CHECK_CODE(completion.code, ZOK);
    CHECK(strcmp(completion.value, "/c") == 0);
}

/* Many requests on their way at once come back in their order: the client closes the connection otherwise. */
static void pipelines(zhandle_t *zh)
{
    static struct completion completions[200];
    char path[64];
    char last[64] = "";

    for (int i = 0; i < 200; i++) {
        CHECK_CODE(zoo_acreate(zh, "/c/container/n-", "x", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL,
                               on_string, &completions[i]), ZOK);
    }
    for (int i = 0; i < 200; i++) {
        wait_for(&completions[i]);
        CHECK_CODE(completions[i].code, ZOK);
        snprintf(path, sizeof path, "/c/container/n-%010d", i);
        CHECK(strcmp(completions[i].value, path) == 0);
        CHECK(strcmp(completions[i].value, last) > 0);
        snprintf(last, sizeof last, "%s", completions[i].value);
    }
}

static void acls(const char *address, zhandle_t *zh)
{
    struct completion completion = {0};
    struct ACL_vector acl;
    struct Stat stat;
    char buffer[16];
    int size = sizeof buffer;
    char path[64];
    zhandle_t *other;

    CHECK_CODE(zoo_add_auth(zh, "digest", "me:secret", 9, on_done, &completion), ZOK);
    wait_for(&completion);
    CHECK_CODE(completion.code, ZOK);
    CHECK_CODE(zoo_create(zh, "/c/mine", "m", 1, &ZOO_CREATOR_ALL_ACL, ZOO_PERSISTENT, path, sizeof path), ZOK);
    CHECK_CODE(zoo_get_acl(zh, "/c/mine", &acl, &stat), ZOK);
    CHECK(acl.count == 1 && acl.data[0].perms == ZOO_PERM_ALL);
    CHECK(strcmp(acl.data[0].id.scheme, "digest") == 0);
    CHECK(strncmp(acl.data[0].id.id, "me:", 3) == 0 && strlen(acl.data[0].id.id) == 3 + 28);
    deallocate_ACL_vector(&acl);

    other = connect_to(address, NULL);
    CHECK_CODE(zoo_get(other, "/c/mine", 0, buffer, &size, NULL), ZNOAUTH);
    CHECK_CODE(zoo_set(other, "/c/mine", "x", 1, -1), ZNOAUTH);
    CHECK_CODE(zoo_set_acl(zh, "/c/mine", 0, &ZOO_READ_ACL_UNSAFE), ZOK);
    CHECK_CODE(zoo_set_acl(zh, "/c/mine", 0, &ZOO_READ_ACL_UNSAFE), ZNOAUTH);
    size = sizeof buffer;
    CHECK_CODE(zoo_get(other, "/c/mine", 0, buffer, &size, &stat), ZOK);
    CHECK(stat.aversion == 1);
    CHECK_CODE(zoo_set(other, "/c/mine", "x", 1, -1), ZNOAUTH);
    zookeeper_close(other);

    acl.count = 0;
    acl.data = NULL;
    CHECK_CODE(zoo_create(zh, "/c/noacl", "", 0, &acl, ZOO_PERSISTENT, path, sizeof path), ZINVALIDACL);
}

static void multis(zhandle_t *zh)
{
    zoo_op_t ops[5];
    zoo_op_result_t results[5];
    char path[64];
    struct Stat stat;

    zoo_create_op_init(&ops[0], "/c/multi", "1", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, path, sizeof path);
    zoo_check_op_init(&ops[1], "/c/multi", 0);
    zoo_set_op_init(&ops[2], "/c/multi", "22", 2, 0, &stat);
    zoo_create_op_init(&ops[3], "/c/multi/x", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0);
    zoo_delete_op_init(&ops[4], "/c/multi/x", 0);
    CHECK_CODE(zoo_multi(zh, 5, ops, results), ZOK);
    for (int i = 0; i < 5; i++) {
        CHECK_CODE(results[i].err, ZOK);
    }
    CHECK(strcmp(path, "/c/multi") == 0);
    CHECK(stat.version == 1 && stat.dataLength == 2 && stat.czxid == stat.mzxid);
    expect_data(zh, "/c/multi", "22", 2);

    zoo_set_op_init(&ops[0], "/c/multi", "333", 3, 1, &stat);
    zoo_check_op_init(&ops[1], "/c/multi", 1);
    zoo_delete_op_init(&ops[2], "/c/multi", -1);
    CHECK_CODE(zoo_multi(zh, 3, ops, results), ZBADVERSION);
    CHECK_CODE(results[0].err, ZOK);
    CHECK_CODE(results[1].err, ZBADVERSION);
    CHECK_CODE(results[2].err, ZRUNTIMEINCONSISTENCY);
    expect_data(zh, "/c/multi", "22", 2);
}

static void watches(zhandle_t *zh)
{
    struct String_vector names;
    struct Stat stat;
    char buffer[16];
    char path[64];
    int size = sizeof buffer;

    CHECK_CODE(zoo_wexists(zh, "/c/w", on_event, NULL, &stat), ZNONODE);
    CHECK_CODE(zoo_wget_children(zh, "/c", on_event, NULL, &names), ZOK);
    deallocate_String_vector(&names);
    CHECK_CODE(zoo_create(zh, "/c/w", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, path, sizeof path), ZOK);
    expect_event(ZOO_CREATED_EVENT, "/c/w");
    expect_event(ZOO_CHILD_EVENT, "/c");

    CHECK_CODE(zoo_wget(zh, "/c/w", on_event, NULL, buffer, &size, &stat), ZOK);
    CHECK_CODE(zoo_set(zh, "/c/w", "1", 1, -1), ZOK);
    expect_event(ZOO_CHANGED_EVENT, "/c/w");
    CHECK_CODE(zoo_set(zh, "/c/w", "2", 1, -1), ZOK);
    synchronises(zh);
    expect_no_event();

    CHECK_CODE(zoo_wexists(zh, "/c/w", on_event, NULL, &stat), ZOK);
    CHECK_CODE(zoo_remove_watches(zh, "/c/w", ZWATCHTYPE_DATA, on_event, NULL, 0), ZOK);
    CHECK_CODE(zoo_remove_watches(zh, "/c/w", ZWATCHTYPE_DATA, on_event, NULL, 0), ZNOWATCHER);
    CHECK_CODE(zoo_wexists(zh, "/c/w", on_event, NULL, &stat), ZOK);
    CHECK_CODE(zoo_remove_all_watches(zh, "/c/w", ZWATCHTYPE_ANY, 0), ZOK);
    CHECK_CODE(zoo_set(zh, "/c/w", "3", 1, -1), ZOK);
    synchronises(zh);
    expect_no_event();

    CHECK_CODE(zoo_wexists(zh, "/c/w", on_event, NULL, &stat), ZOK);
    CHECK_CODE(zoo_delete(zh, "/c/w", -1), ZOK);
    expect_event(ZOO_DELETED_EVENT, "/c/w");
}

/* A process ends without a word; another takes its session over and finds the ephemeral znode in place. */
static void reattaches(const char *address)
{
    int ends[2];
    clientid_t id;
    struct Stat stat;
    zhandle_t *zh;
    char path[64];
    pid_t child;

    CHECK(pipe(ends) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        zh = connect_to(address, NULL);
        CHECK_CODE(zoo_create(zh, "/left", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, path, sizeof path), ZOK);
        id = *zoo_client_id(zh);
        CHECK(write(ends[1], &id, sizeof id) == sizeof id);
        _exit(0);
    }
    CHECK(read(ends[0], &id, sizeof id) == sizeof id);
    CHECK(waitpid(child, NULL, 0) == child);
    zh = connect_to(address, &id);
    CHECK(zoo_client_id(zh)->client_id == id.client_id);
    CHECK_CODE(zoo_exists(zh, "/left", 0, &stat), ZOK);
    CHECK(stat.ephemeralOwner == id.client_id);
    CHECK_CODE(zookeeper_close(zh), ZOK);
    zh = connect_to(address, NULL);
    CHECK_CODE(zoo_exists(zh, "/left", 0, &stat), ZNONODE);
    CHECK_CODE(zookeeper_close(zh), ZOK);
}

static void closes(const char *address, zhandle_t *zh)
{
    struct Stat stat;

    CHECK_CODE(zookeeper_close(zh), ZOK);
    zh = connect_to(address, NULL);
    CHECK_CODE(zoo_exists(zh, "/c/e", 0, &stat), ZNONODE);
    CHECK_CODE(zoo_exists(zh, "/c/es-0000000004", 0, &stat), ZNONODE);
    CHECK_CODE(zoo_exists(zh, "/c/ttl", 0, &stat), ZOK);
    CHECK_CODE(zookeeper_close(zh), ZOK);
}

/* A session that the server does not know is over, and the client is told so. */
static void expires(const char *address)
{
    clientid_t id = {0x0123456789abcdef, "not its password"};
    zhandle_t *zh = zookeeper_init(address, NULL, SESSION_MS, &id, NULL, 0);

    CHECK(zh != NULL);
    for (int tries = 0; zoo_state(zh) != ZOO_EXPIRED_SESSION_STATE; tries++) {
        CHECK(tries < EVENT_SECONDS_MAX * 20);
        usleep(50000);
    }
    zookeeper_close(zh);
}

int main(int argc, char **argv)
{
    zhandle_t *zh;

    if (argc != 2) {
        fprintf(stderr, "usage: %s <host:port>\n", argv[0]);
        return 2;
    }
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    reattaches(argv[1]); /* forks, so it comes before any thread */
    zh = connect_to(argv[1], NULL);
    creates(zh);
    changes(zh);
    children(zh);
    synchronises(zh);
    pipelines(zh);
    acls(argv[1], zh);
    multis(zh);
    watches(zh);
    closes(argv[1], zh);
    expires(argv[1]);
    return 0;
}
