#include "cpu/bindings.h"
#include "cpu/clouds.h"

using namespace fdsl;

namespace {

using Clouds = nb::ndarray<float, nb::shape<-1, -1, 3>, nb::c_contig, nb::device::cpu>;

void draw_clouds(const std::string& kernel, const Systems<12>& affine, const Matrix<const double>& probability,
                 const Vector<const int32_t>& maps, const Records<CloudInstance>& instances, uint64_t seed, int own,
                 const Clouds& out, int threads) {
  const AffineParameters parameters = parameters_of<12>(affine, probability, maps);
  const CloudInstance* records = records_of<CloudInstance>(instances, maps.shape(0));
  check(out.shape(0) == instances.shape(0) && out.shape(1) <= MAX_POINTS, "out does not fit the batch");
  const int points = static_cast<int>(out.shape(1));
  check(own >= 1 && own <= points, "own does not fit the points");
  const CloudSpec spec = {seed, points, own, static_cast<uint32_t>(maps.shape(0)), 0};
  const Kernel& chosen = kernel_named(kernel);
  nb::gil_scoped_release release;
  draw_clouds_batch(chosen, parameters, records, instances.shape(0), spec, out.data(), threads);
}

void draw_cloud_pictures(const std::string& kernel, const Systems<12>& affine, const Matrix<const double>& probability,
                         const Vector<const int32_t>& maps, int own, const Records<CloudPicture>& instances,
                         const SpecBytes& spec, const Matrix<const uint8_t>& palette, const Images& out, int threads) {
  const AffineParameters parameters = parameters_of<12>(affine, probability, maps);
  const Batch batch = batch_of(instances.shape(0), spec, palette, out, threads);
  const CloudPicture* records = records_of<CloudPicture>(instances, maps.shape(0));
  const CloudSpec cloud = {batch.spec.seed, batch.spec.points, own, static_cast<uint32_t>(maps.shape(0)), 0};
  check(own >= 1 && own <= cloud.points, "own does not fit the points");
  const Kernel& chosen = kernel_named(kernel);
  nb::gil_scoped_release release;
  draw_cloud_pictures_batch(chosen, parameters, records, cloud, batch);
}

void place_scenes(
    uint64_t seed, double floor, uint32_t objects, uint32_t categories, uint32_t instances,
    const Vector<const uint32_t>& scenes, const Vector<const uint32_t>& epochs,
    const nb::ndarray<uint8_t, nb::shape<-1, -1, sizeof(CloudInstance)>, nb::c_contig, nb::device::cpu>& out,
    const Vector<int32_t>& counts, int threads) {
  const size_t count = scenes.shape(0), most = out.shape(1);
  check(epochs.shape(0) == count && out.shape(0) == count && counts.shape(0) == count &&
            most >= size_t{objects} + POISSON_MOST,
        "out does not fit the batch");
  const SceneSpec spec = {seed, floor, objects, categories, instances, 0};
  nb::gil_scoped_release release;
  place_scenes_batch(spec, scenes.data(), epochs.data(), count, most, reinterpret_cast<CloudInstance*>(out.data()),
                     counts.data(), threads);
}

}  // namespace

void bind_clouds(nb::module_& module) {
  module.attr("CLOUD_INSTANCE_BYTES") = sizeof(CloudInstance);
  module.attr("POISSON_MOST") = POISSON_MOST;
  module.def("draw_clouds", &draw_clouds, nb::arg("kernel"), nb::arg("affine").noconvert(),
             nb::arg("probability").noconvert(), nb::arg("maps").noconvert(), nb::arg("instances").noconvert(),
             nb::arg("seed"), nb::arg("own"), nb::arg("out").noconvert(), nb::arg("threads"),
             "Draws point clouds into out, float32 (B, points, 3).");
  module.attr("CLOUD_PICTURE_BYTES") = sizeof(CloudPicture);
  module.def("draw_cloud_pictures", &draw_cloud_pictures, nb::arg("kernel"), nb::arg("affine").noconvert(),
             nb::arg("probability").noconvert(), nb::arg("maps").noconvert(), nb::arg("own"),
             nb::arg("instances").noconvert(), nb::arg("spec").noconvert(), nb::arg("palette").noconvert(),
             nb::arg("out").noconvert(), nb::arg("threads"),
             "Draws point clouds, as cameras see them, into out, uint8 (B, channels, size, size).");
  module.def("place_scenes", &place_scenes, nb::arg("seed"), nb::arg("floor"), nb::arg("objects"),
             nb::arg("categories"), nb::arg("instances"), nb::arg("scenes").noconvert(), nb::arg("epochs").noconvert(),
             nb::arg("out").noconvert(), nb::arg("counts").noconvert(), nb::arg("threads"),
             "Places the objects of scenes: their records, and how many there are of each.");
}
