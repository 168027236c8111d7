#include "CGPU.h"

const char *llv_driver_find(llv_driver *driver, void *(*find)(void *library, const char *name), void *library) {
#define LLV_FIND(name, arguments) \
  if (!(driver->name = (int (*) arguments)find(library, #name))) return #name;
  LLV_ENTRY_POINTS(LLV_FIND)
  return 0;
}
