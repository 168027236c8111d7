// The header is what this target is for; a target needs a source.
#include "llvconv.h"
