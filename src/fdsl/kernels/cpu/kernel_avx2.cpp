#include "cpu/affine_painter.h"
#include "cpu/lanes_avx2.h"

namespace fdsl {

const Kernel kernel_avx2 = {"avx2", draw_points<Avx2, AffineModel<Avx2>>, measure_affine<Avx2>};

}  // namespace fdsl
