// Which keys rows of attention see.
#pragma once
#include "internal.h"

typedef struct { size_t from, to; } llv_range;

// Keys of a part that row r sees, whose first key stands at place `base`; empty: from == to.
static inline llv_range llv_seen(const llv_sight *sight, size_t r, size_t base, size_t count) {
  size_t place = sight->at + r, from = 0, to = SIZE_MAX;
  if (sight->window > 0) {
    if (place + 1 > sight->window) from = place + 1 - sight->window;
    to = place + sight->window;
  }
  if (sight->causal && to > place + 1) to = place + 1;
  from = from > base ? from - base : 0;
  to = to > base ? to - base : 0;
  if (to > count) to = count;
  return (llv_range){from < to ? from : to, to};
}

// The part of a range that lies in a block of keys, counted from the block's first.
static inline llv_range llv_in_block(llv_range seen, size_t first, size_t keys) {
  size_t from = seen.from > first ? seen.from - first : 0, to = seen.to > first ? seen.to - first : 0;
  if (to > keys) to = keys;
  return (llv_range){from < to ? from : to, to};
}
