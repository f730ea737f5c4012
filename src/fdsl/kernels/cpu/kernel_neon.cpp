#include "cpu/kernel.h"
#include "cpu/lanes_neon.h"

namespace fdsl {

constinit const Kernel kernel_neon = kernel_of<Neon>("neon");

}  // namespace fdsl
