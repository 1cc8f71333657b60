// Folders of guided-diffusion against its own code: the published checkpoints' tensors, respaced
// schedules, and x_0 as it predicts it from a whole network (tools/golden_adm.py).
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "motet/pretrained.hpp"
#include "pretrained_guided.hpp"
#include "support/adm.hpp"
#include "support/folder.hpp"
#include "support/golden.hpp"

namespace motet {
namespace {

using Json = nlohmann::json;
using detail::GuidedDiffusion;
using detail::GuidedFile;

const Json& golden() {
  static const Json values = testing::read_golden("adm");
  return values;
}

GuidedFile file_of(const Json& flags) {
  const bool is_classifier = flags.contains("classifier_width");
  const Json json = {{"format", "guided-diffusion"},
                     {"network", is_classifier ? "EncoderUNetModel" : "UNetModel"},
                     {"flags", flags}};
  return detail::parse_guided_file(json.dump(), "test");
}

TEST(GuidedDiffusionGolden, PublishedCheckpointsHaveTheTensorsOfTheReferenceCode) {
  for (const Json& item : golden()["published"]) {
    SCOPED_TRACE(item["name"]);
    const GuidedFile file = file_of(item["flags"]);
    const auto network =
        file.is_classifier ? detail::adm_classifier(file.network) : detail::adm_unet(file.network);
    EXPECT_EQ(network->expected_tensors().size(), item["num_tensors"]);
    EXPECT_EQ(testing::fingerprint(network->expected_tensors()), item["hash"]);
  }
}

TEST(GuidedDiffusionGolden, SchedulesAndTimesAreTheReferenceCodes) {
  for (const Json& item : golden()["diffusions"]) {
    SCOPED_TRACE(item["flags"].dump());
    const GuidedDiffusion diffusion = file_of(item["flags"]).diffusion;
    const NoiseSchedule schedule = detail::guided_schedule(diffusion);
    const std::vector<double> times = detail::guided_times(diffusion);
    ASSERT_EQ(schedule.num_levels(), item["num_levels"]);
    ASSERT_EQ(times.size(), item["num_levels"]);
    if (!item["timestep_map"].empty()) {
      EXPECT_EQ(detail::spaced_steps(diffusion.num_steps, diffusion.respacing),
                item["timestep_map"].get<std::vector<int64_t>>());
    }
    for (size_t i = 0; i < item["levels"].size(); ++i) {
      const size_t level = item["levels"][i];
      EXPECT_EQ(times[level], item["times"][i].get<double>());
      // Near the end of a cosine 1 - beta is a ratio of squares of cosines near 0: it keeps 11 digits.
      const double alpha_bar = item["alphas_cumprod"][i];
      EXPECT_NEAR(schedule.alpha_bars()[level], alpha_bar, 1e-10 * alpha_bar);
    }
  }
}

// x_0 = (x + sigma^2 s) / sqrt(abar), as SpacedDiffusion.p_mean_variance has it.
TEST(GuidedDiffusionGolden, NetworksPredictTheReferenceCodesImages) {
  for (const Json& item : golden()["denoised"]) {
    const test::Folder folder;
    const GuidedFile file = file_of(item["flags"]);
    const auto network = detail::adm_unet(file.network);
    detail::save_guided_diffusion(folder.path(), file,
                                  testing::adm_tensors(network->expected_tensors()));
    const Tensor points = testing::adm_points(3, file.network.image_size);
    const auto expected = item["x_0"].get<std::vector<double>>();
    const int64_t half = static_cast<int64_t>(expected.size()) / 2;
    for (int64_t row = 0; row < 2; ++row) {
      PretrainedOptions options;
      if (file.network.num_classes > 0) {
        options.inputs["class_labels"] = at::scalar_tensor(row + 3);
      }
      const ModelPtr model = load_guided_diffusion(folder.path(), "net", options);
      const NoiseLevel level = model->schedule()->level(item["level"]);
      const Tensor x = points.narrow(0, row, 1);
      const Tensor score = model->evaluate(x, level).score.to(at::kDouble);
      const Tensor x_0 = (x + (1.0 - level.alpha_bar) * score) / std::sqrt(level.alpha_bar);
      const Tensor wanted = at::tensor(expected, at::kDouble).narrow(0, row * half, half);
      EXPECT_LT((x_0.flatten() - wanted).abs().max().item<double>(), 1e-5);
    }
  }
}

}  // namespace
}  // namespace motet
