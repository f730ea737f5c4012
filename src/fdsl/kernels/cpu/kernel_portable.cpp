#include "cpu/kernel.h"
#include "cpu/lanes_portable.h"

namespace fdsl {

constinit const Kernel kernel_portable = kernel_of<Portable>("portable");

}  // namespace fdsl
