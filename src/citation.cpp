// Which papers a run rests on, read from its JSON.
#include <nlohmann/json.hpp>

#include "motet/error.hpp"
#include "motet/report.hpp"

namespace motet {
namespace {

constexpr const char* kSjoberg = R"(@article{sjoberg2023mcmc,
  title   = {{MCMC}-Correction of Score-Based Diffusion Models for Model Composition},
  author  = {Sj{\"o}berg, Anders and Lindqvist, Jakob and {\"O}nnheim, Magnus and Jirstrand, Mats and Svensson, Lennart},
  journal = {arXiv preprint arXiv:2307.14012},
  year    = {2023}
}
)";
constexpr const char* kDu = R"(@inproceedings{du2023reduce,
  title     = {Reduce, Reuse, Recycle: Compositional Generation with Energy-Based Diffusion Models and {MCMC}},
  author    = {Du, Yilun and Durkan, Conor and Strudel, Robin and Tenenbaum, Joshua B. and Dieleman, Sander and Fergus, Rob and Sohl-Dickstein, Jascha and Doucet, Arnaud and Grathwohl, Will},
  booktitle = {International Conference on Machine Learning},
  year      = {2023},
  note      = {arXiv:2302.11552}
}
)";
constexpr const char* kRemy = R"(@article{remy2020probabilistic,
  title   = {Probabilistic Mapping of Dark Matter by Neural Score Matching},
  author  = {Remy, Benjamin and Lanusse, Fran{\c{c}}ois and Ramzi, Zaccharie and Liu, Jia and Jeffrey, Niall and Starck, Jean-Luc},
  journal = {arXiv preprint arXiv:2011.08271},
  year    = {2020}
}
)";
constexpr const char* kHorowitz = R"(@article{horowitz1991generalized,
  title   = {A generalized guided {Monte} {Carlo} algorithm},
  author  = {Horowitz, Alan M.},
  journal = {Physics Letters B},
  volume  = {268},
  number  = {2},
  pages   = {247--252},
  year    = {1991}
}
)";
constexpr const char* kRoberts = R"(@article{roberts1996exponential,
  title   = {Exponential convergence of {Langevin} distributions and their discrete approximations},
  author  = {Roberts, Gareth O. and Tweedie, Richard L.},
  journal = {Bernoulli},
  volume  = {2},
  number  = {4},
  pages   = {341--363},
  year    = {1996}
}
)";
constexpr const char* kHo = R"(@inproceedings{ho2020denoising,
  title     = {Denoising Diffusion Probabilistic Models},
  author    = {Ho, Jonathan and Jain, Ajay and Abbeel, Pieter},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2020}
}
)";
constexpr const char* kSong = R"(@inproceedings{song2021ddim,
  title     = {Denoising Diffusion Implicit Models},
  author    = {Song, Jiaming and Meng, Chenlin and Ermon, Stefano},
  booktitle = {International Conference on Learning Representations},
  year      = {2021}
}
)";
constexpr const char* kNichol = R"(@inproceedings{nichol2021improved,
  title     = {Improved Denoising Diffusion Probabilistic Models},
  author    = {Nichol, Alexander Quinn and Dhariwal, Prafulla},
  booktitle = {International Conference on Machine Learning},
  year      = {2021}
}
)";
constexpr const char* kRombach = R"(@inproceedings{rombach2022high,
  title     = {High-Resolution Image Synthesis with Latent Diffusion Models},
  author    = {Rombach, Robin and Blattmann, Andreas and Lorenz, Dominik and Esser, Patrick and Ommer, Bj{\"o}rn},
  booktitle = {Conference on Computer Vision and Pattern Recognition},
  year      = {2022}
}
)";
constexpr const char* kSalmon = R"(@inproceedings{salmon2011parallel,
  title     = {Parallel random numbers: as easy as 1, 2, 3},
  author    = {Salmon, John K. and Moraes, Mark A. and Dror, Ron O. and Shaw, David E.},
  booktitle = {International Conference for High Performance Computing, Networking, Storage and Analysis},
  year      = {2011}
}
)";

bool starts_with(const std::string& text, const std::string& start) {
  return text.rfind(start, 0) == 0;
}

std::string schedule_citation(const std::string& schedule) {
  if (starts_with(schedule, "cosine")) {
    return kNichol;
  }
  if (starts_with(schedule, "scaled_linear")) {
    return kRombach;
  }
  return starts_with(schedule, "linear") ? kHo : "";
}

std::string citations_of(const nlohmann::json& run, const std::string& name) {
  if (!run.is_object() || run.value("kind", "") != "sample" || !run.contains("sampler")) {
    throw DataError("cite: " + name +
                    ": not the JSON of a sampling run; give a file written by motet sample --json");
  }
  const auto& sampler = run["sampler"];
  const std::string kernel = sampler.value("kernel_type", "");
  const std::string ratio = sampler.value("ratio", "");
  const bool composed = run.contains("models") && run["models"].size() > 1;
  std::string out;
  if (ratio == "line" || ratio == "curve") {
    out += kSjoberg;
    out += kRemy;
  }
  if (composed) {
    out += kDu;
  }
  if (kernel == "hmc" || kernel == "hmc-unflipped" || kernel == "uhmc") {
    out += kHorowitz;
  } else if (kernel == "ula" || kernel == "mala") {
    out += kRoberts;
  }
  if (sampler.value("placement", "") != "pure") {
    out += sampler.value("reverse_step", "") == "ddim" ? kSong : kHo;
  }
  const std::string schedule = schedule_citation(run.value("schedule", ""));
  if (out.find(schedule) == std::string::npos) {
    out += schedule;
  }
  out += kSalmon;
  return out;
}

}  // namespace

std::string citations(const std::string& json, const std::string& name) {
  const auto run = nlohmann::json::parse(json, nullptr, false);
  try {
    return citations_of(run, name);
  } catch (const nlohmann::json::exception& error) {
    throw DataError("cite: " + name + ": not as motet sample --json writes it: " + error.what());
  }
}

}  // namespace motet
