/* role.h - whether this member is a learner: app->learner, asked of the node.
 *
 * Process: quorumfs-grpc.
 * Thread:  the loop's.
 * Errors:  an answer that does not come leaves what was known.
 * Memory:  embedded in struct app.
 * Units:   milliseconds. */
#ifndef SIDECAR_ROLE_H
#define SIDECAR_ROLE_H

struct app;

void role_init(struct app *app);
/* The line is up, or leadership has changed: asks now, and again every ROLE_ASK_MS as long as it is a learner or not known to
 * be a member, since nothing says that this has changed; else every ROLE_SURE_MS. */
void role_ask(struct app *app);
void role_close(struct app *app);

#endif
