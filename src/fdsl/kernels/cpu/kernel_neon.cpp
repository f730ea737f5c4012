#include "cpu/affine_painter.h"
#include "cpu/lanes_neon.h"

namespace fdsl {

const Kernel kernel_neon = {"neon", draw_points<Neon, AffineModel<Neon>>, measure_affine<Neon>};

}  // namespace fdsl
