// [model.*] tables and `target` -> terms and one expression. Tables that are expressions are written
// out where they are named, so that what is left are leaves: laws, weights files and likelihoods.
#include "config_target.hpp"

#include <algorithm>
#include <filesystem>
#include <map>

#include "config_classes.hpp"
#include "config_keys.hpp"
#include "config_laws.hpp"
#include "config_likelihood.hpp"
#include "config_pretrained.hpp"
#include "config_tapestry.hpp"
#include "motet/error.hpp"
#include "motet/expression.hpp"

namespace motet::detail {
namespace {

using Kind = Expression::Kind;

constexpr size_t kMaxParts = 10'000;  // of a target that is written out
constexpr size_t kMaxChain = 20;      // tables that name each other

std::string beside(const std::string& directory, const std::string& path) {
  const std::filesystem::path given(path);
  return given.is_absolute() ? path : (std::filesystem::path(directory) / given).string();
}

using LawMaker = AnalyticPtr (*)();
const std::vector<std::pair<std::string, LawMaker>>& law_makers() {
  static const std::vector<std::pair<std::string, LawMaker>> makers = {
      {"ring", [] { return ring(); }},
      {"bar", [] { return bar(); }},
      {"checkerboard", [] { return checkerboard(); }},
      {"moons", [] { return moons(); }},
      {"spirals", [] { return spirals(); }}};
  return makers;
}

AnalyticPtr named_law(const std::string& name) {
  for (const auto& [known, make] : law_makers()) {
    if (known == name) {
      return make();
    }
  }
  return nullptr;
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) {
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

// An expression, and the key that it stands under.
struct Source {
  std::string key;
  std::string text;
};
Source source_at(const Settings& settings, const std::string& key) {
  return {key, settings.get<std::string>(key)};
}

// An error says where the expression stands, but for one on the command line.
Expression parse_at(const Settings& settings, const Source& source) {
  try {
    return parse_expression(source.text);
  } catch (const ConfigError& error) {
    throw ConfigError(settings.label(source.key) + error.what());
  }
}

[[noreturn]] void refuse_table(const Settings& settings, const std::string& name) {
  settings.fail_whole("[model." + name +
                      "] must have exactly one of weights, law, likelihood, classifier and "
                      "expression");
}

// One [model.NAME] table without an expression.
TermConfig read_leaf(const Settings& settings, const std::string& name,
                     const std::string& directory) {
  const std::string prefix = "model." + name + ".";
  TermConfig term;
  term.name = name;
  term.pretrained = read_pretrained(settings, prefix, name, directory);
  term.likelihood = read_likelihood(settings, prefix, name, directory);
  if (term.likelihood) {
    return term;
  }
  term.law = read_law(settings, prefix, name);
  term.classifier = read_classifier(settings, prefix, name, directory);
  if (term.classifier) {
    term.law = nullptr;  // its classes are in the classifier
    return term;
  }
  if (term.law == nullptr && settings.given(prefix + "event_shape")) {
    settings.fail(prefix + "event_shape",
                  "but only laws and likelihoods take it; networks know theirs");
  }
  if (settings.given(prefix + "weights")) {
    term.weights = beside(directory, settings.get<std::string>(prefix + "weights"));
  }
  if (settings.given(prefix + "score_only")) {
    term.score_only = settings.get<bool>(prefix + "score_only");
  }
  if (term.weights.empty() == (term.law == nullptr)) {
    refuse_table(settings, name);
  }
  return term;
}

// What a table with an expression may not have beside it.
void check_expression(const Settings& settings, const std::string& name) {
  const std::string prefix = "model." + name + ".";
  read_pretrained(settings, prefix, name, "");  // refuses them all
  for (const char* key : {"weights", "law", "likelihood", "classifier"}) {
    if (settings.given(prefix + key)) {
      refuse_table(settings, name);
    }
  }
  if (settings.given(prefix + "score_only")) {
    settings.fail(prefix + "score_only", "but [model." + name +
                                             "] is an expression; write score(...) around its "
                                             "names, and leave this out");
  }
}

// Without `target`: the product of all tables.
TargetSettings read_product(const Settings& settings, const std::string& directory) {
  TargetSettings found;
  bool has_law = false;
  for (const std::string& name : settings.names_under("model")) {
    const std::string prefix = "model." + name + ".";
    if (settings.given(prefix + "expression")) {
      settings.fail(prefix + "expression",
                    "but target is not given; say what to sample, as in target = \"" + name + "\"");
    }
    TermConfig term = read_leaf(settings, name, directory);
    if (settings.given(prefix + "exponent")) {
      term.exponent = settings.get<double>(prefix + "exponent");
    }
    if (term.conditions() && !(term.exponent > 0.0)) {
      settings.fail(prefix + "exponent",
                    "must be > 0: what a likelihood says cannot be taken back");
    }
    has_law = has_law || !term.conditions();
    found.terms.push_back(std::move(term));
  }
  if (found.terms.empty()) {
    settings.fail_whole(
        "no [model.NAME] table; name at least one factor, with weights = \"FILE\" or law = ..., or "
        "give target = \"EXPRESSION\"");
  }
  if (!has_law) {
    settings.fail_whole("each [model.NAME] is a likelihood; add the law that they condition");
  }
  return found;
}

// Writes out the target of a config, or the models of its windows.
class TargetReader {
 public:
  TargetReader(Settings& settings, const std::string& directory, std::vector<Source> roots,
               bool is_tapestry)
      : settings_(settings),
        directory_(directory),
        roots_(std::move(roots)),
        is_tapestry_(is_tapestry),
        tables_(settings.names_under("model")),
        known_(tables_) {
    for (const std::string& law : named_laws()) {
      if (!is_table(law)) {
        known_.push_back(law);
      }
    }
  }

  // The roots, written out, and the terms that they need.
  std::pair<std::vector<std::string>, std::vector<TermConfig>> read() {
    drop_or_refuse_unused();
    for (const std::string& name : tables_) {
      check_powers(name);
      if (is_expression(name)) {
        check_expression(settings_, name);
      }
    }
    std::vector<std::string> texts;
    for (const Source& root : roots_) {
      texts.push_back(written_out(root));
    }
    std::vector<TermConfig> terms;
    for (const std::string& name : tables_) {
      if (!is_expression(name)) {
        terms.push_back(read_leaf(settings_, name, directory_));
      }
    }
    terms.insert(terms.end(), others_.begin(), others_.end());
    return {std::move(texts), std::move(terms)};
  }

 private:
  bool is_table(const std::string& name) const {
    return std::find(tables_.begin(), tables_.end(), name) != tables_.end();
  }
  bool is_expression(const std::string& name) const {
    return settings_.given("model." + name + ".expression");
  }

  std::string written_out(const Source& root) {
    Expression tree = parse_at(settings_, root);
    std::vector<std::string> path;
    if (!write_out(tree, root, path).is_changed) {
      return root.text;
    }
    std::string text = to_string(tree);
    check_written_out(root.key, text);
    return text;
  }

  // All tables that the target reaches.
  std::vector<std::string> used_tables() const {
    std::vector<std::string> used;
    std::vector<Source> pending = roots_;
    while (!pending.empty()) {
      const Expression tree = parse_at(settings_, pending.back());
      pending.pop_back();
      for (const Expression& name : names_in(tree)) {
        const bool is_new = std::find(used.begin(), used.end(), name.text) == used.end();
        if (name.is_quoted || !is_table(name.text) || !is_new) {
          continue;
        }
        used.push_back(name.text);
        if (is_expression(name.text)) {
          pending.push_back(source_at(settings_, "model." + name.text + ".expression"));
        }
      }
    }
    return used;
  }

  void drop_or_refuse_unused() {
    const std::vector<std::string> used = used_tables();
    std::vector<std::string> unused;
    for (const std::string& name : tables_) {
      if (std::find(used.begin(), used.end(), name) == used.end()) {
        unused.push_back(name);
      }
    }
    if (settings_.is_override("target")) {
      for (const std::string& name : unused) {
        settings_.drop_table("model." + name);
        std::erase(tables_, name);
      }
    } else if (!unused.empty()) {
      refuse_unused(unused);
    }
  }

  [[noreturn]] void refuse_unused(std::vector<std::string> unused) const {
    for (std::string& name : unused) {
      if (!is_expression_name(name)) {
        settings_.fail_whole("[model." + name +
                             "] cannot be named in target: names there begin with a letter or _; "
                             "rename it");
      }
      name = "[model." + name + "]";
    }
    const std::string them = unused.size() == 1 ? "it" : "them";
    const std::string why =
        "does not use " + listed(unused) + "; name " + them + ", or leave " + them + " out";
    if (is_tapestry_) {
      settings_.fail_whole("[tapestry] " + why);
    }
    settings_.fail("target", why);
  }

  void check_powers(const std::string& name) const {
    const std::string prefix = "model." + name + ".";
    if (settings_.given(prefix + "exponent")) {
      const std::string power =
          name + "^" + number_text(settings_.get<double>(prefix + "exponent"));
      const std::string what = is_tapestry_ ? "[tapestry]" : "target";
      settings_.fail(prefix + "exponent", "but " + what +
                                              " is given, which says the powers: write " + power +
                                              " there, and leave this out");
    }
  }

  struct Written {
    bool is_changed = false;
    size_t num_parts = 0;
  };

  // Puts the tables' expressions into the tree.
  Written write_out(Expression& node, const Source& source, std::vector<std::string>& path) {
    if (node.kind == Kind::name && !node.is_quoted && is_table(node.text) &&
        is_expression(node.text)) {
      const auto& [tree, num_parts] = table_tree(node.text, path);
      node = tree;
      return {true, num_parts};
    }
    if (node.kind == Kind::name) {
      find_leaf(node, source);
    }
    Written all{false, 1};
    for (Expression& child : node.children) {
      const Written part = write_out(child, source, path);
      all = {all.is_changed || part.is_changed, all.num_parts + part.num_parts};
      if (all.num_parts > kMaxParts) {
        settings_.fail(roots_.front().key, "has more than " + std::to_string(kMaxParts) +
                                               " parts when its expressions are written out");
      }
    }
    return all;
  }

  // The tree of a table's expression, written out, and how many parts it has.
  const std::pair<Expression, size_t>& table_tree(const std::string& name,
                                                  std::vector<std::string>& path) {
    const auto known = trees_.find(name);
    if (known != trees_.end()) {
      return known->second;
    }
    const std::string key = "model." + name + ".expression";
    const bool is_loop = std::find(path.begin(), path.end(), name) != path.end();
    path.push_back(name);
    if (is_loop) {
      std::string chain;
      for (const std::string& step : path) {
        chain += (chain.empty() ? "" : " -> ") + step;
      }
      settings_.fail(key, "leads back to itself: " + chain);
    }
    if (path.size() > kMaxChain) {
      settings_.fail(key, "is more than " + std::to_string(kMaxChain) +
                              " tables away from target; write some of them out");
    }
    const Source source = source_at(settings_, key);
    Expression tree = parse_at(settings_, source);
    const size_t num_parts = write_out(tree, source, path).num_parts;
    path.pop_back();
    return trees_[name] = {std::move(tree), num_parts};
  }

  // A table, a built-in law or a file: the last two become terms of their own.
  void find_leaf(const Expression& node, const Source& source) {
    if (!node.is_quoted && is_table(node.text)) {
      return;
    }
    const auto is_same = [&node](const TermConfig& term) { return term.name == node.text; };
    if (std::any_of(others_.begin(), others_.end(), is_same)) {
      return;
    }
    TermConfig term;
    term.name = node.text;
    if (node.is_quoted) {
      if (!is_weights_name(node.text)) {
        refuse_name(node, source,
                    "'" + node.text +
                        "' must be a weights file, whose name ends in .safetensors, a program, "
                        "whose name ends in .ts or .pt2, a mixer, whose name ends in .eqx, or a "
                        "folder, whose name has no dot or ends in /");
      }
      term.weights = beside(directory_, node.text);
      term.is_quoted = true;
    } else {
      term.law = named_law(node.text);
      if (!term.law) {
        refuse_name(node, source, unknown_name(node.text));
      }
    }
    others_.push_back(std::move(term));
  }

  [[noreturn]] void refuse_name(const Expression& node, const Source& source,
                                const std::string& why) const {
    throw ConfigError(settings_.label(source.key) + point_at(source.text, node.column, why));
  }

  std::string unknown_name(const std::string& name) const {
    std::string text = "unknown name \"" + name + "\"";
    const std::string near = nearest(name, known_);
    if (std::filesystem::path(name).extension() == ".safetensors") {
      return text + "; a file stands in quotes";
    }
    text += near.empty()
                ? "; known: " + listed(known_) + "; others need a table [model." + name + "]"
                : "; did you mean \"" + near + "\"?";
    return name.find('-') == std::string::npos
               ? text
               : text + " (a name may hold -; there is no subtraction)";
  }

  void check_written_out(const std::string& key, const std::string& text) const {
    try {
      parse_expression(text);
    } catch (const ConfigError& error) {
      throw ConfigError(settings_.label(key) + "with its expressions written out: " + error.what());
    }
  }

  Settings& settings_;
  std::string directory_;
  std::vector<Source> roots_;
  bool is_tapestry_;
  std::vector<std::string> tables_;  // that are used
  std::vector<std::string> known_;   // all that a name may be
  std::map<std::string, std::pair<Expression, size_t>> trees_;
  std::vector<TermConfig> others_;
};

TargetSettings read_windows(Settings& settings, const std::string& directory) {
  if (settings.given("target")) {
    settings.fail("target", "but [tapestry] is given, which says what to sample; leave one out");
  }
  TargetSettings found;
  TapestryConfig tapestry = read_tapestry(settings);
  std::vector<Source> roots;
  for (size_t i = 0; i < tapestry.windows.size(); ++i) {
    roots.push_back({window_key(settings, i), tapestry.windows[i].model});
  }
  auto [texts, terms] = TargetReader(settings, directory, std::move(roots), true).read();
  for (size_t i = 0; i < texts.size(); ++i) {
    tapestry.windows[i].model = std::move(texts[i]);
  }
  found.tapestry = std::move(tapestry);
  found.terms = std::move(terms);
  return found;
}

void rename_quoted(Expression& node, const std::function<std::string(const std::string&)>& rename) {
  if (node.is_quoted) {
    node.text = rename(node.text);
  }
  for (Expression& child : node.children) {
    rename_quoted(child, rename);
  }
}

}  // namespace

std::vector<std::string> named_laws() {
  std::vector<std::string> names;
  for (const auto& [name, make] : law_makers()) {
    names.push_back(name);
  }
  return names;
}

TargetSettings read_target(Settings& settings, const std::string& directory) {
  if (settings.given_under("tapestry")) {
    return read_windows(settings, directory);
  }
  if (!settings.given("target")) {
    return read_product(settings, directory);
  }
  auto [texts, terms] =
      TargetReader(settings, directory, {source_at(settings, "target")}, false).read();
  return {.target = std::move(texts.front()), .tapestry = {}, .terms = std::move(terms)};
}

std::vector<std::string> renamed_files(
    const SampleConfig& config, const std::function<std::string(const std::string&)>& rename) {
  if (std::none_of(config.terms.begin(), config.terms.end(),
                   [](const TermConfig& term) { return term.is_quoted; })) {
    return {};
  }
  const Settings settings = Settings::parse(config.toml, config.name, sample_keys(), {});
  std::vector<std::string> keys = {"target"};
  for (const std::string& name : settings.names_under("tapestry.window")) {
    keys.push_back("tapestry.window." + name + ".model");
  }
  for (const std::string& name : settings.names_under("model")) {
    keys.push_back("model." + name + ".expression");
  }
  std::vector<std::string> changed;
  for (const std::string& key : keys) {
    if (settings.given(key)) {
      Expression tree = parse_expression(settings.get<std::string>(key));
      rename_quoted(tree, rename);
      changed.push_back(key + "=" + to_toml(to_string(tree)));
    }
  }
  return changed;
}

}  // namespace motet::detail
