// Threads for one fused pass.
#pragma once

namespace thinned {

// Runs fn(context, part, parts) for every part of 0…parts-1, on up to `parts` threads and never more than there are
// processors, and returns when all are done. `parts` is what the caller asked for, up to 256; nothing may depend on
// which thread runs which part. fn finds IEEE's arithmetic (environment.h).
//
// Safe from many threads at once (a caller that finds the pool busy runs its parts itself) and in a forked child
// (which starts a pool of its own on first use).
void parallel(int parts, void (*fn)(void* context, int part, int parts), void* context);

// Lends this module the team of an OpenMP runtime that the process already runs (libgomp's GOMP_parallel);
// null takes it back. Two pools on the same cores fight: the idle team of the one spins where the other's
// thread should run.
using TeamLauncher = void (*)(void (*fn)(void*), void* data, unsigned threads, unsigned flags);
void borrow_team(TeamLauncher launcher);

}  // namespace thinned
