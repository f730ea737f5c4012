#include "cpu/kernel.h"
#include "cpu/lanes_portable.h"

namespace fdsl {

const Kernel kernel_portable = {"portable", draw_picture<Portable>, measure_picture<Portable>};

}  // namespace fdsl
