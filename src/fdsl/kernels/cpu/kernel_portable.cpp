#include "cpu/affine_painter.h"
#include "cpu/lanes_portable.h"

namespace fdsl {

const Kernel kernel_portable = {"portable", draw_points<Portable, AffineModel<Portable>>, measure_affine<Portable>};

}  // namespace fdsl
