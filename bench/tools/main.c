// The load tools of bench/, all on the loopback address. bench/README.md says how to call them.
#include "net.h"
#include "tools.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int argument_count;
static char **arguments;

const char *option(const char *name, const char *otherwise) {
    size_t length = strlen(name);
    for (int i = 2; i < argument_count; i++)
        if (!strncmp(arguments[i], name, length) && arguments[i][length] == '=') return arguments[i] + length + 1;
    if (otherwise) return otherwise;
    fprintf(stderr, "%s=… is missing\n", name);
    exit(2);
}

double number(const char *name, const char *otherwise) { return atof(option(name, otherwise)); }

int main(int count, char **words) {
    static const struct { const char *name; int (*run)(void); } TOOLS[] = {
        {"load", run_load}, {"sink", run_sink}, {"carrier", run_carrier}, {"fsync", run_fsync}};
    argument_count = count;
    arguments = words;
    allow_many_files();
    stop_by_signal();
    for (size_t i = 0; count > 1 && i < sizeof TOOLS / sizeof *TOOLS; i++)
        if (!strcmp(words[1], TOOLS[i].name)) return TOOLS[i].run();
    fprintf(stderr, "usage: tools load|sink|carrier|fsync name=value …\n");
    return 2;
}
