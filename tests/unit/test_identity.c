/* raft/identity: the file's bytes as docs/data-directory.md shows them, and whose directory is taken and whose not. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/crc32c.h"
#include "raft/identity.h"
#include "tests/unit/temp_dir.h"

static const struct identity golden = {2, 0xcdf818194e3a8c32, 0x8e9e05c52164694d, 0xcdf818194e3a8c32, 0x0123456789abcdef, false, "default"};

struct fixture {
    char dir[64];
    struct config c;
    char text[1024];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char data_dir[80];
    char *argv[] = {"--data-dir", data_dir, "--initial-cluster-token", "etcd-cluster"};

    assert_non_null(f);
    temp_dir(f->dir, sizeof(f->dir), "quorumfs-identity");
    snprintf(data_dir, sizeof(data_dir), "%s/d", f->dir);
    assert_int_equal(config_parse(4, argv, &f->c, f->text, sizeof(f->text)), 0);
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    config_fini(&f->c);
    free(f);
    return 0;
}

static void write_file(struct fixture *f, const char *name, const void *data, size_t len)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", f->c.data_dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

/* A text with its CRC line. */
static size_t seal(char *text, size_t size)
{
    size_t len = strlen(text);

    return len + (size_t)snprintf(text + len, size - len, "crc32c %08x\n", crc32c(0, text, len));
}

static void the_bytes_are_those_of_the_page(void **state)
{
    static char page[1 << 15];
    FILE *file = fopen("docs/data-directory.md", "r");
    struct identity id;
    struct bytes b;
    char *p;

    assert_non_null(file);
    page[fread(page, 1, sizeof(page) - 1, file)] = '\0';
    fclose(file);
    bytes_init(&b);
    identity_encode(&golden, &b);
    p = strstr(page, "```\nquorumfs-data");
    assert_non_null(p);
    assert_memory_equal(p + 4, b.data, b.len);
    assert_memory_equal(p + 4 + b.len, "```", 3);
    assert_int_equal(identity_decode(bytes_slice(&b), &id), 0);
    assert_memory_equal(&id, &golden, sizeof(id));
    bytes_fini(&b);
}

/* What the first programs wrote. */
static void the_first_format_is_read(void **state)
{
    char text[256] = "quorumfs-data 1\ncluster cdf818194e3a8c32\nmember 8e9e05c52164694d\nname default\n";
    struct identity id;
    size_t len = seal(text, sizeof(text));

    assert_int_equal(identity_decode(slice_make((const uint8_t *)text, len), &id), 0);
    assert_true(id.data_id == id.cluster_id && id.cluster_id == 0xcdf818194e3a8c32 && id.instance == 0 && !id.joined);
}

/* A joining member does not know yet who it is. */
static void a_member_that_joins_has_no_numbers_yet(void **state)
{
    struct fixture *f = *state;
    struct identity id;
    bool is_new = false;

    f->c.existing = true;
    assert_int_equal(identity_prepare(&f->c, -1, -1, f->text, sizeof(f->text)), 0);
    assert_int_equal(identity_check(&f->c, &id, &is_new, f->text, sizeof(f->text)), 0);
    assert_true(is_new && id.joined && id.member_id == 0 && id.cluster_id == 0 && id.instance != 0);
}

static void no_changed_byte_passes(void **state)
{
    struct bytes b;

    bytes_init(&b);
    identity_encode(&golden, &b);
    for (size_t i = 0; i < b.len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            struct identity id;
            int rc;

            b.data[i] ^= (uint8_t)(1 << bit);
            rc = identity_decode(bytes_slice(&b), &id);
            if (i == 14) /* the version's digit */
                assert_true(rc == -EBADMSG || rc == -EPROTONOSUPPORT);
            else
                assert_int_equal(rc, -EBADMSG);
            b.data[i] ^= (uint8_t)(1 << bit);
        }
        assert_int_equal(identity_decode(slice_make(b.data, i), &(struct identity){0}), -EBADMSG);
    }
    bytes_fini(&b);
}

static void a_new_directory_is_made_and_kept(void **state)
{
    struct fixture *f = *state;
    struct identity id, again;
    struct stat st;
    bool is_new;

    assert_int_equal(identity_prepare(&f->c, -1, -1, f->text, sizeof(f->text)), 0);
    assert_int_equal(stat(f->c.data_dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(identity_check(&f->c, &id, &is_new, f->text, sizeof(f->text)), 0);
    assert_true(is_new);
    assert_int_equal(identity_create(&f->c, &id, f->text, sizeof(f->text)), 0);
    assert_int_equal(identity_prepare(&f->c, -1, -1, f->text, sizeof(f->text)), 0);
    assert_int_equal(identity_check(&f->c, &again, &is_new, f->text, sizeof(f->text)), 0);
    assert_false(is_new);
    assert_true(again.cluster_id == f->c.cluster_id && again.member_id == f->c.members[0].id);
}

static void one_process_at_a_time(void **state)
{
    struct fixture *f = *state;
    int first, second = -77;

    assert_int_equal(identity_prepare(&f->c, -1, -1, f->text, sizeof(f->text)), 0);
    assert_int_equal(identity_lock(&f->c, &first, f->text, sizeof(f->text)), 0);
    assert_int_equal(identity_lock(&f->c, &second, f->text, sizeof(f->text)), -EBUSY);
    assert_int_equal(second, -77);
    assert_non_null(strstr(f->text, f->c.data_dir));
    close(first);
    assert_int_equal(identity_lock(&f->c, &second, f->text, sizeof(f->text)), 0);
    close(second);
}

static void expect(struct fixture *f, int rc, const char *says)
{
    struct identity id;
    bool is_new;
    int got = identity_check(&f->c, &id, &is_new, f->text, sizeof(f->text));

    if (got != rc || strstr(f->text, says) == NULL || strstr(f->text, f->c.data_dir) == NULL)
        fail_msg("%d: %s", got, f->text);
}

static void directories_of_others_are_refused(void **state)
{
    struct fixture *f = *state;
    struct identity id = {2, f->c.cluster_id, f->c.members[0].id, f->c.cluster_id, 7, false, "default"};
    char newer[256] = "quorumfs-data 3\nwhatever it says then\n";
    struct bytes b;

    assert_int_equal(identity_prepare(&f->c, -1, -1, f->text, sizeof(f->text)), 0);
    write_file(f, "notes.txt", "x", 1);
    expect(f, -EUCLEAN, "notes.txt");
    assert_int_equal(identity_prepare(&f->c, getuid(), getgid() + 1, f->text, sizeof(f->text)), -EUCLEAN);
    id.cluster_id++, id.data_id++; /* a forced cluster has another number, and the data of the old one */
    assert_int_equal(identity_create(&f->c, &id, f->text, sizeof(f->text)), 0);
    expect(f, -EXDEV, "another cluster");
    f->c.existing = true; /* the operator says that the flags are out of date */
    assert_int_equal(identity_check(&f->c, &id, &(bool){false}, f->text, sizeof(f->text)), 0);
    f->c.existing = false;
    id.cluster_id--, id.data_id--;
    id.member_id++;
    assert_int_equal(identity_create(&f->c, &id, f->text, sizeof(f->text)), 0);
    expect(f, -EXDEV, "another member");
    write_file(f, "identity", newer, seal(newer, sizeof(newer)));
    expect(f, -EPROTONOSUPPORT, "newer format");
    bytes_init(&b);
    identity_encode(&id, &b);
    write_file(f, "identity", b.data, b.len - 1);
    expect(f, -EUCLEAN, "damaged");
    bytes_fini(&b);
}

static void etcds_directory_is_refused_and_left_alone(void **state)
{
    struct fixture *f = *state;
    char path[256];

    assert_int_equal(mkdir(f->c.data_dir, 0700), 0);
    snprintf(path, sizeof(path), "%s/member", f->c.data_dir);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/member/wal", f->c.data_dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(identity_prepare(&f->c, -1, -1, f->text, sizeof(f->text)), -EEXIST);
    expect(f, -EEXIST, "etcd");
}

static void what_is_no_directory_is_refused(void **state)
{
    struct fixture *f = *state;
    int fd = open(f->c.data_dir, O_CREAT | O_WRONLY, 0600);

    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(identity_prepare(&f->c, -1, -1, f->text, sizeof(f->text)), -ENOTDIR);
    assert_non_null(strstr(f->text, f->c.data_dir));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_are_those_of_the_page),
        cmocka_unit_test(the_first_format_is_read),
        cmocka_unit_test_setup_teardown(a_member_that_joins_has_no_numbers_yet, set_up, tear_down),
        cmocka_unit_test(no_changed_byte_passes),
        cmocka_unit_test_setup_teardown(a_new_directory_is_made_and_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_process_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(directories_of_others_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(etcds_directory_is_refused_and_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_directory_is_refused, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
