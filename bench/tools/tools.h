// The tools and their arguments, each as name=value.
#ifndef TOOLS_H
#define TOOLS_H

const char *option(const char *name, const char *otherwise);  // without `otherwise` it must be given
double number(const char *name, const char *otherwise);

int run_load(void);
int run_sink(void);
int run_carrier(void);
int run_fsync(void);
#endif
