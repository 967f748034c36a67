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
/* The line is up, or leadership has changed: asks once, and as long as it is a learner every ROLE_ASK_MS, since nothing
 * says that it was promoted. A member that votes never becomes a learner. */
void role_ask(struct app *app);
void role_close(struct app *app);

#endif
