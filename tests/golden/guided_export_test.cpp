// The folders that tools/export/guided_diffusion.py makes, against those that motet writes itself. Run
// by tests/golden/check_export_guided.py, which converts the one into the other.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cstdlib>

#include "motet/pretrained.hpp"
#include "pretrained_guided.hpp"
#include "support/adm.hpp"

namespace motet {
namespace {

// Where check_export_guided.py works; empty: nothing to do.
std::string folder() {
  const char* given = std::getenv("MOTET_CHECK_EXPORT");
  return given == nullptr ? "" : given;
}

detail::GuidedFile file_of(bool is_classifier) {
  return {.is_classifier = is_classifier,
          .network = {.image_size = 8,
                      .in_channels = 1,
                      .num_channels = 32,
                      .num_res_blocks = 1,
                      .channel_mult = {1, 2},
                      .attention_resolutions = {4},
                      .num_heads = is_classifier ? 1 : 4,
                      .num_head_channels = is_classifier ? 32 : -1,
                      .use_scale_shift_norm = true,
                      .resblock_updown = true,
                      .learn_sigma = !is_classifier,
                      .num_classes = 5,
                      .pool = detail::AdmPool::attention},
          .diffusion = {.noise_schedule = "cosine", .respacing = "25", .rescales_times = true}};
}

TEST(GuidedExport, WritesNetworksToConvert) {
  if (folder().empty()) {
    GTEST_SKIP() << "run by check_export_guided.py";
  }
  for (const bool is_classifier : {false, true}) {
    const detail::GuidedFile file = file_of(is_classifier);
    const auto network =
        is_classifier ? detail::adm_classifier(file.network) : detail::adm_unet(file.network);
    detail::save_guided_diffusion(folder() + (is_classifier ? "/classifier" : "/network"), file,
                                  testing::adm_tensors(network->expected_tensors()));
  }
}

TEST(GuidedExport, ConvertedNetworksAreTheSame) {
  if (folder().empty()) {
    GTEST_SKIP() << "run by check_export_guided.py";
  }
  const PretrainedOptions options = {.inputs = {{"class_labels", at::scalar_tensor(2)}}};
  const ModelPtr model = load_guided_diffusion(folder() + "/network", "net", options);
  const ModelPtr converted = load_guided_diffusion(folder() + "/converted", "net", options);
  const Tensor x = testing::adm_points(1, 8);
  ASSERT_TRUE(model->schedule()->same_levels(*converted->schedule()));
  const NoiseLevel level = model->schedule()->level(20);
  EXPECT_TRUE(at::equal(model->evaluate(x, level).score, converted->evaluate(x, level).score));
  const auto value = [&](const std::string& name) {
    return load_guided_diffusion_classifier(folder() + name, 3, "y")->evaluate(x, level, {});
  };
  EXPECT_TRUE(at::equal(value("/classifier").score, value("/converted-classifier").score));
}

}  // namespace
}  // namespace motet
