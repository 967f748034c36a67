/* nullfs MOUNTPOINT - a file system that keeps nothing but memory, to see what FUSE itself costs: one thread, no timeouts for
 * entries, a second for attributes that were looked up, direct reads, as in the mount of quorumfs. It does just what the benchmark asks. */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TABLE 65536
#define ATTR_S 1.0

struct node {
    fuse_ino_t parent;
    char *name;
    struct stat st;
    char *data;
    size_t cap;
    struct node *next; /* of its name's chain */
    uint64_t nlookup;
    int linked;
};

static struct node *names[TABLE];

static struct node *of(fuse_ino_t ino)
{
    static struct node root = {.st = {.st_mode = S_IFDIR | 0777, .st_nlink = 2, .st_ino = 1}};

    return ino == FUSE_ROOT_ID ? &root : (struct node *)(uintptr_t)ino;
}

static struct node **slot(fuse_ino_t parent, const char *name)
{
    uint64_t h = parent * 0x9e3779b97f4a7c15ULL;

    for (; *name != 0; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3ULL;
    return &names[(h ^ h >> 29) & (TABLE - 1)];
}

static struct node *find(fuse_ino_t parent, const char *name)
{
    struct node *n = *slot(parent, name);

    while (n != NULL && (n->parent != parent || strcmp(n->name, name) != 0))
        n = n->next;
    return n;
}

static void link_node(struct node *n, fuse_ino_t parent, const char *name)
{
    struct node **at = slot(parent, name);

    n->parent = parent;
    n->name = strdup(name);
    n->next = *at;
    *at = n;
    n->linked = 1;
}

static void unlink_node(struct node *n)
{
    struct node **at = slot(n->parent, n->name);

    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    free(n->name);
    n->linked = 0;
}

static void drop(struct node *n, uint64_t count)
{
    n->nlookup -= count;
    if (n->nlookup == 0 && !n->linked && n != of(FUSE_ROOT_ID)) {
        free(n->data);
        free(n);
    }
}

static struct node *make(fuse_ino_t parent, const char *name, mode_t mode)
{
    struct node *n = calloc(1, sizeof(*n));

    n->st = (struct stat){.st_mode = mode, .st_nlink = S_ISDIR(mode) ? 2 : 1, .st_ino = (ino_t)(uintptr_t)n, .st_blksize = 4096};
    link_node(n, parent, name);
    return n;
}

static struct fuse_entry_param entry(struct node *n)
{
    n->nlookup++;
    return (struct fuse_entry_param){.ino = (fuse_ino_t)(uintptr_t)n, .generation = 1, .attr = n->st};
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct node *n = find(parent, name);
    struct fuse_entry_param e;

    if (n == NULL) {
        fuse_reply_err(req, ENOENT);
        return;
    }
    e = entry(n);
    e.attr_timeout = ATTR_S;
    fuse_reply_entry(req, &e);
}

static void do_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
    drop(of(ino), count);
    fuse_reply_none(req);
}

static void do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) { fuse_reply_attr(req, &of(ino)->st, ATTR_S); }

static void do_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
    if (to_set & FUSE_SET_ATTR_SIZE && attr->st_size < of(ino)->st.st_size)
        of(ino)->st.st_size = attr->st_size;
    fuse_reply_attr(req, &of(ino)->st, 0);
}

static void do_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct fuse_entry_param e = entry(make(parent, name, S_IFDIR | 0777));

    fuse_reply_entry(req, &e);
}

static void opened(struct node *n, struct fuse_file_info *fi)
{
    if ((fi->flags & O_TRUNC) != 0)
        n->st.st_size = 0;
    fi->direct_io = (fi->flags & O_ACCMODE) == O_RDONLY;
}

static void do_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    struct node *n = find(parent, name);
    struct fuse_entry_param e;

    n = n != NULL ? n : make(parent, name, S_IFREG | 0644);
    opened(n, fi);
    e = entry(n);
    fuse_reply_create(req, &e, fi);
}

static void do_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    opened(of(ino), fi);
    fuse_reply_open(req, fi);
}

static void do_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct node *n = of(ino);
    size_t len = off < n->st.st_size ? (size_t)(n->st.st_size - off) : 0;

    fuse_reply_buf(req, n->data + off, len < size ? len : size);
}

static void do_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct node *n = of(ino);

    if ((size_t)off + size > n->cap) {
        n->cap = ((size_t)off + size) * 2;
        n->data = realloc(n->data, n->cap);
    }
    memcpy(n->data + off, data, size);
    if ((off_t)(off + (off_t)size) > n->st.st_size)
        n->st.st_size = off + (off_t)size;
    fuse_reply_write(req, size);
}

static void do_nothing(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) { fuse_reply_err(req, 0); }

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct node *n = find(parent, name);

    if (n != NULL) {
        unlink_node(n);
        drop(n, 0);
    }
    fuse_reply_err(req, n != NULL ? 0 : ENOENT);
}

static void do_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2, unsigned flags)
{
    struct node *n = find(parent, name), *there = find(parent2, name2);

    if (there != NULL && there != n) {
        unlink_node(there);
        drop(there, 0);
    }
    if (n != NULL && there != n) {
        unlink_node(n);
        link_node(n, parent2, name2);
    }
    fuse_reply_err(req, n != NULL ? 0 : ENOENT);
}

struct listing {
    char *data;
    size_t len, cap;
};

/* The whole directory at once, as a mount of quorumfs takes its names when one is opened. */
static void do_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct listing *l = calloc(1, sizeof(*l));

    for (size_t i = 0; i < TABLE; i++) {
        for (struct node *n = names[i]; n != NULL; n = n->next) {
            size_t need;

            if (n->parent != ino)
                continue;
            need = fuse_add_direntry(req, NULL, 0, n->name, NULL, 0);
            if (l->len + need > l->cap) {
                l->cap = (l->len + need) * 2;
                l->data = realloc(l->data, l->cap);
            }
            fuse_add_direntry(req, l->data + l->len, need, n->name, &n->st, (off_t)(l->len + need));
            l->len += need;
        }
    }
    fi->fh = (uint64_t)(uintptr_t)l;
    fuse_reply_open(req, fi);
}

static void do_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct listing *l = (struct listing *)(uintptr_t)fi->fh;
    size_t at = (size_t)off < l->len ? (size_t)off : l->len, end = at;

    while (end < l->len) { /* whole entries: their length stands 16 bytes into each */
        uint32_t name_len;
        size_t need;

        memcpy(&name_len, l->data + end + 16, sizeof(name_len));
        need = (24 + (size_t)name_len + 7) / 8 * 8;
        if (end + need - at > size)
            break;
        end += need;
    }
    fuse_reply_buf(req, l->data + at, end - at);
}

static void do_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct listing *l = (struct listing *)(uintptr_t)fi->fh;

    free(l->data);
    free(l);
    fuse_reply_err(req, 0);
}

static void do_init(void *userdata, struct fuse_conn_info *conn)
{
    conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE |
                              FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
    conn->want |= conn->capable & FUSE_CAP_ATOMIC_O_TRUNC;
}

int main(int argc, char **argv)
{
    static const struct fuse_lowlevel_ops ops = {
        .init = do_init, .lookup = do_lookup, .forget = do_forget, .getattr = do_getattr, .setattr = do_setattr,
        .mkdir = do_mkdir, .create = do_create, .open = do_open, .read = do_read, .write = do_write, .flush = do_nothing,
        .release = do_nothing, .unlink = remove_name, .rmdir = remove_name, .rename = do_rename, .opendir = do_opendir,
        .readdir = do_readdir, .releasedir = do_releasedir,
    };
    char *words[] = {"nullfs", "-o", "fsname=nullfs,allow_other,default_permissions", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, words);
    struct fuse_session *session;
    int rc;

    if (argc != 2)
        return 2;
    session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
    if (session == NULL || fuse_set_signal_handlers(session) != 0 || fuse_session_mount(session, argv[1]) != 0)
        return 1;
    puts("ready");
    fflush(stdout);
    rc = fuse_session_loop(session);
    fuse_session_unmount(session);
    return rc < 0 ? 1 : 0;
}
