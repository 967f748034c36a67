/* A store that does not sync its batches: trusted after a crash of its process, not after one of the machine. */
#include "tests/unit/store_fixture.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int open_unsynced(struct fixture *f)
{
    struct store_options options = {.flags = STORE_WRITER | STORE_UNSYNCED, .cluster_id = 7, .map_bytes = 1u << 30};

    return store_open(f->store_dir, &options, &f->store);
}

static void begin(struct fixture *f)
{
    *f = (struct fixture){.time_ns = 1000};
    temp_dir(f->dir, sizeof(f->dir), "quorumfs-store");
    snprintf(f->store_dir, sizeof(f->store_dir), "%s/store", f->dir);
    arena_init(&f->arena);
}

static void end(struct fixture *f)
{
    char path[256];

    store_close(f->store);
    f->store = NULL;
    for (int epoch = 1; epoch < 5; epoch++) {
        snprintf(path, sizeof(path), "%s/env.%d/data.mdb", f->store_dir, epoch);
        unlink(path);
        snprintf(path, sizeof(path), "%s/env.%d/lock.mdb", f->store_dir, epoch);
        unlink(path);
        snprintf(path, sizeof(path), "%s/env.%d", f->store_dir, epoch);
        rmdir(path);
    }
    snprintf(path, sizeof(path), "%s/RUN", f->store_dir);
    unlink(path);
    fixture_end(f);
}

static void run_path(struct fixture *f, char *path, size_t size)
{
    snprintf(path, size, "%s/RUN", f->store_dir);
}

/* In a process of its own, which ends without closing anything. */
static void crash_after_put(struct fixture *f, const char *key)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        if (open_unsynced(f) < 0)
            _exit(1);
        fixture_put(f, key, "value");
        _exit(0);
    }
    assert_int_equal(child, waitpid(child, &status, 0));
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int64_t newest(struct fixture *f)
{
    struct store_read *r;
    int64_t revision;

    assert_int_equal(0, store_read_begin(f->store, &r));
    revision = store_read_revision(r);
    store_read_end(r);
    return revision;
}

/* As if the mark had been written in another boot. */
static void go_through_a_boot(struct fixture *f)
{
    char path[256], text[256] = {0};
    FILE *file;
    char *boot;

    run_path(f, path, sizeof(path));
    file = fopen(path, "r+");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof(text) - 1, file) > 0);
    boot = strstr(text, "boot ");
    if (boot != NULL)
        boot[5] = boot[5] == '0' ? '1' : '0';
    rewind(file);
    assert_true(fputs(text, file) >= 0);
    fclose(file);
}

static void a_crash_of_the_process_loses_nothing(void **state)
{
    struct fixture f;

    begin(&f);
    crash_after_put(&f, "a");
    assert_int_equal(0, open_unsynced(&f));
    assert_int_equal(1, store_epoch(f.store));
    assert_int_equal(2, newest(&f));
    end(&f);
}

static void a_crash_of_the_machine_begins_anew(void **state)
{
    struct fixture f;
    struct stat st;
    char path[256];

    begin(&f);
    crash_after_put(&f, "a");
    go_through_a_boot(&f);
    assert_int_equal(0, open_unsynced(&f));
    assert_int_equal(2, store_epoch(f.store));
    assert_int_equal(1, newest(&f));
    snprintf(path, sizeof(path), "%s/env.1", f.store_dir);
    assert_int_equal(-1, stat(path, &st));
    store_close(f.store);
    crash_after_put(&f, "b"); /* and again */
    go_through_a_boot(&f);
    assert_int_equal(0, open_unsynced(&f));
    assert_int_equal(3, store_epoch(f.store));
    end(&f);
}

static void a_closed_store_is_trusted_after_a_boot(void **state)
{
    struct fixture f;

    begin(&f);
    assert_int_equal(0, open_unsynced(&f));
    fixture_put(&f, "a", "1");
    store_close(f.store);
    go_through_a_boot(&f); /* there is no boot in the mark */
    assert_int_equal(0, open_unsynced(&f));
    assert_int_equal(1, store_epoch(f.store));
    assert_int_equal(2, newest(&f));
    end(&f);
}

static void a_lost_mark_is_not_trusted(void **state)
{
    struct fixture f;
    char path[256];

    begin(&f);
    crash_after_put(&f, "a");
    run_path(&f, path, sizeof(path));
    assert_int_equal(0, unlink(path));
    assert_int_equal(0, open_unsynced(&f));
    assert_int_equal(2, store_epoch(f.store));
    end(&f);
}

/* Restored from a backup that was made while the node ran: the same names and bytes in another file. */
static void a_copied_environment_is_not_trusted(void **state)
{
    struct fixture f;
    char path[256], copy[300], command[1200];

    begin(&f);
    crash_after_put(&f, "a");
    snprintf(path, sizeof(path), "%s/env.1/data.mdb", f.store_dir);
    snprintf(copy, sizeof(copy), "%s.copy", path);
    snprintf(command, sizeof(command), "cp '%s' '%s' && mv '%s' '%s'", path, copy, copy, path);
    assert_int_equal(0, system(command));
    assert_int_equal(0, open_unsynced(&f));
    assert_int_equal(2, store_epoch(f.store));
    end(&f);
}

static void a_synced_run_takes_over(void **state)
{
    struct store_options synced = {.flags = STORE_WRITER, .cluster_id = 7, .map_bytes = 1u << 30};
    struct fixture f;

    begin(&f);
    crash_after_put(&f, "a");
    assert_int_equal(0, store_open(f.store_dir, &synced, &f.store)); /* same boot: takes over and syncs */
    assert_int_equal(2, newest(&f));
    store_close(f.store);
    go_through_a_boot(&f);
    assert_int_equal(0, store_open(f.store_dir, &synced, &f.store));
    assert_int_equal(1, store_epoch(f.store));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_of_the_process_loses_nothing),
        cmocka_unit_test(a_crash_of_the_machine_begins_anew),
        cmocka_unit_test(a_closed_store_is_trusted_after_a_boot),
        cmocka_unit_test(a_lost_mark_is_not_trusted),
        cmocka_unit_test(a_copied_environment_is_not_trusted),
        cmocka_unit_test(a_synced_run_takes_over),
    };

    return cmocka_run_group_tests_name("store_boot", tests, NULL, NULL);
}
