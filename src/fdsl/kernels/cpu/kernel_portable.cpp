#include "cpu/affine_painter.h"
#include "cpu/clouds_painter.h"
#include "cpu/lanes_portable.h"

namespace fdsl {

const Kernel kernel_portable = {"portable", draw_affine<Portable>, measure_affine<Portable>, draw_cloud<Portable>};

}  // namespace fdsl
