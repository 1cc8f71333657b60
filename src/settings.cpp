// TOML -> flat checked settings. toml++ parses; everything after (types, ranges, unknown keys,
// overrides) is decided by the table of keys, so that a message can always say what is allowed.
#include "settings.hpp"

#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <sstream>

#include "motet/error.hpp"

namespace motet::detail {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr size_t kMaxEntries = 1'000'000;
constexpr const char* kOverride = "--set";  // where a value stands

std::vector<std::string> split_dots(const std::string& name) {
  std::vector<std::string> parts;
  std::istringstream stream(name);
  for (std::string part; std::getline(stream, part, '.');) {
    parts.push_back(part);
  }
  return parts;
}

// "model.ring.exponent" against "model.*.exponent": the pattern with its star filled in when the
// first `depth` components agree, else nothing.
std::optional<std::string> fill_star(const std::string& pattern,
                                     const std::vector<std::string>& path, size_t depth) {
  std::vector<std::string> parts = split_dots(pattern);
  if (parts.size() < depth || path.size() < depth) {
    return std::nullopt;
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i] == "*" && i < path.size()) {
      parts[i] = path[i];
    }
    if (i < depth && parts[i] != path[i]) {
      return std::nullopt;
    }
  }
  std::string name = parts[0];
  for (size_t i = 1; i < parts.size(); ++i) {
    name += "." + parts[i];
  }
  return name;
}

std::string show(const toml::node& node) {
  std::ostringstream out;
  node.visit([&out](const auto& concrete) {
    using Node = std::decay_t<decltype(concrete)>;
    if constexpr (std::is_same_v<Node, toml::value<std::string>>) {
      out << to_toml(Value(concrete.get()));
    } else if constexpr (std::is_same_v<Node, toml::value<double>>) {
      out << number_text(concrete.get());
    } else {
      out << concrete;
    }
  });
  return shorten(out.str());
}

// What toml++ says, and which names there are where it stumbled over one.
std::string syntax_text(const toml::parse_error& error) {
  const std::string text(error.description());
  const bool is_name =
      text.find("parsing key") != text.npos || text.find("table header") != text.npos;
  return text + (is_name ? "; names are of a-z, A-Z, 0-9, _ and -" : "");
}

template <class T>
std::optional<std::vector<T>> list_of(const toml::node& node) {
  const toml::array* array = node.as_array();
  if (array == nullptr || array->size() > kMaxEntries) {
    return std::nullopt;
  }
  std::vector<T> values;
  for (const toml::node& entry : *array) {
    if (!entry.is_integer() && !(std::is_same_v<T, double> && entry.is_floating_point())) {
      return std::nullopt;
    }
    values.push_back(*entry.value<T>());
  }
  return values;
}

std::optional<std::vector<std::vector<double>>> rows_of(const toml::node& node) {
  const toml::array* array = node.as_array();
  if (array == nullptr || array->size() > kMaxEntries) {
    return std::nullopt;
  }
  std::vector<std::vector<double>> rows;
  for (const toml::node& entry : *array) {
    auto row = list_of<double>(entry);
    if (!row) {
      return std::nullopt;
    }
    rows.push_back(std::move(*row));
  }
  return rows;
}

std::optional<std::vector<std::string>> texts_of(const toml::node& node) {
  const toml::array* array = node.as_array();
  if (array == nullptr || array->size() > kMaxEntries) {
    return std::nullopt;
  }
  std::vector<std::string> texts;
  for (const toml::node& entry : *array) {
    if (!entry.is_string()) {
      return std::nullopt;
    }
    texts.push_back(*entry.value<std::string>());
  }
  return texts;
}

std::optional<Value> convert(const toml::node& node, KeyType type) {
  const auto lift = [](auto optional) -> std::optional<Value> {
    return optional ? std::optional<Value>(std::move(*optional)) : std::nullopt;
  };
  switch (type) {
    case KeyType::boolean:
      return node.is_boolean() ? lift(node.value<bool>()) : std::nullopt;
    case KeyType::integer:
      return node.is_integer() ? lift(node.value<int64_t>()) : std::nullopt;
    case KeyType::number:
      return node.is_number() ? lift(node.value<double>()) : std::nullopt;
    case KeyType::text:
      return node.is_string() ? lift(node.value<std::string>()) : std::nullopt;
    case KeyType::integers:
      return lift(list_of<int64_t>(node));
    case KeyType::numbers:
      return lift(list_of<double>(node));
    case KeyType::rows:
      return lift(rows_of(node));
    case KeyType::texts:
      return lift(texts_of(node));
  }
  return std::nullopt;
}

// What a value breaks of its key's range or choices: "[3] = -1, must be > 0"; "" when it is fine.
std::string broken_rule(const Key& key, const Value& value) {
  const auto check = [&key](double number, const std::string& place) -> std::string {
    if (std::isnan(number) || (std::isinf(number) && !key.may_be_infinite)) {
      return place + " = " + number_text(number) +
             (key.may_be_infinite ? ", must be a number" : ", must be finite");
    }
    return key.range.contains(number)
               ? ""
               : place + " = " + number_text(number) + ", must be " + key.range.describe();
  };
  const auto check_all = [&check, &key](const auto& list, const std::string& place) -> std::string {
    for (size_t i = 0; i < list.size(); ++i) {
      std::string broken =
          check(static_cast<double>(list[i]), place + "[" + std::to_string(i) + "]");
      if (!broken.empty()) {
        return broken;
      }
    }
    return list.empty() && !key.may_be_empty ? place + " = [], must have at least one entry" : "";
  };
  if (const auto* integer = std::get_if<int64_t>(&value)) {
    return key.range.contains(static_cast<double>(*integer))
               ? ""
               : " = " + std::to_string(*integer) + ", must be " + key.range.describe();
  }
  if (const auto* number = std::get_if<double>(&value)) {
    return check(*number, "");
  }
  if (const auto* integers = std::get_if<std::vector<int64_t>>(&value)) {
    return check_all(*integers, "");
  }
  if (const auto* numbers = std::get_if<std::vector<double>>(&value)) {
    return check_all(*numbers, "");
  }
  if (const auto* rows = std::get_if<std::vector<std::vector<double>>>(&value)) {
    for (size_t i = 0; i < rows->size(); ++i) {
      std::string broken = check_all((*rows)[i], "[" + std::to_string(i) + "]");
      if (!broken.empty()) {
        return broken;
      }
    }
  }
  std::vector<std::string> texts;
  if (const auto* text = std::get_if<std::string>(&value)) {
    texts = {*text};
  } else if (const auto* list = std::get_if<std::vector<std::string>>(&value)) {
    texts = *list;
  }
  for (const std::string& text : texts) {
    if (!key.choices.empty() &&
        std::find(key.choices.begin(), key.choices.end(), text) == key.choices.end()) {
      const std::string near = nearest(text, key.choices);
      return " = " + to_toml(value) + ", must be " + describe_allowed(key) +
             (near.empty() ? "" : "; did you mean \"" + near + "\"?");
    }
  }
  return "";
}

}  // namespace

// Walks a TOML tree and fills a Settings.
class SettingsReader {
 public:
  explicit SettingsReader(Settings& settings) : settings_(settings) {}

  void read_file(std::string_view text) {
    if (text.size() > kMaxBytes) {
      throw ConfigError("config: " + settings_.file_ + ": " + std::to_string(text.size()) +
                        " bytes, must be at most " + std::to_string(kMaxBytes));
    }
    const auto refuse = [this](int64_t line, const std::string& why) {
      throw ConfigError("config: " + settings_.file_ + ":" + std::to_string(line) + ": " + why);
    };
    if (const std::optional<BadLine> bad = find_bad_line(text)) {
      refuse(bad->line, bad->why);
    }
    try {
      const toml::table table = toml::parse(text, settings_.file_);
      read_table(table, {});
    } catch (const toml::parse_error& error) {
      refuse(error.source().begin.line, syntax_text(error));
    }
  }

  void read_override(const std::string& text) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw ConfigError("config: --set " + shorten(text) + ": must be key=value");
    }
    if (const std::optional<BadLine> bad = find_bad_line(text)) {
      throw ConfigError("config: --set " + shorten(text) + ": " + bad->why);
    }
    const std::string name = without_blanks(text.substr(0, equals));
    is_override_ = true;
    const toml::table table = parse_override(name, text.substr(equals + 1));
    forget(name);
    read_table(table, {});
  }

 private:
  toml::table parse_override(const std::string& name, const std::string& value) {
    const Key* key = settings_.find_key(name);
    const bool takes_text = key != nullptr && std::find(key->types.begin(), key->types.end(),
                                                        KeyType::text) != key->types.end();
    std::vector<std::string> candidates = {name + " = " + value};
    if (takes_text) {  // a bare word, so that a shell needs no nested quotes
      candidates.push_back(name + " = " + to_toml(Value(value)));
    }
    std::string problem;
    for (const std::string& text : candidates) {
      try {
        return toml::parse(text);
      } catch (const toml::parse_error& error) {
        problem = syntax_text(error);
      }
    }
    throw ConfigError("config: --set " + shorten(name + "=" + value) + ": " + problem);
  }

  // An override replaces the key, everything under it, and what it lies under; it takes the place
  // of what it replaces in the order of the file.
  void forget(const std::string& name) {
    const auto is_related = [&name](const std::string& other) {
      return other == name || other.rfind(name + ".", 0) == 0 || name.rfind(other + ".", 0) == 0;
    };
    override_order_ = std::numeric_limits<int64_t>::max();
    for (const auto& [other, entry] : settings_.entries_) {
      override_order_ =
          is_related(other) ? std::min(override_order_, entry.order) : override_order_;
    }
    std::erase_if(settings_.entries_, [&](const auto& item) { return is_related(item.first); });
  }

  void read_table(const toml::table& table, const std::vector<std::string>& path) {
    for (const auto& [part, node] : table) {
      std::vector<std::string> inner = path;
      inner.emplace_back(part.str());
      const std::string where = "config: " + place(node, part) + ": ";
      const std::string name = joined(inner);
      if (!is_bare(inner.back()) && is_known_prefix(inner)) {
        throw ConfigError(where + "[" + shorten(name) +
                          "] must have a name of a-z, A-Z, 0-9, _ and -; rename it");
      }
      if (!is_known_prefix(inner)) {
        unknown(where, inner, name);
      }
      const Key* key = settings_.find_key(name);
      const bool is_model = inner.size() == 2 && inner[0] == "model";
      if (is_model && node.is_table() && node.as_table()->empty()) {
        throw ConfigError(where + "[" + name +
                          "] is empty; give it weights, a law, a likelihood or an expression");
      }
      if (node.is_table() && (key == nullptr || has_keys_under(inner))) {
        read_table(*node.as_table(), inner);
      } else if (key == nullptr) {
        throw ConfigError(where + name + " = " + show(node) + ", must be a table [" + name + "]");
      } else {
        read_leaf(where, name, *key, node, place(node, part));
      }
    }
  }

  void read_leaf(const std::string& where, const std::string& name, const Key& key,
                 const toml::node& node, const std::string& place) {
    for (const KeyType type : key.types) {
      if (std::optional<Value> value = convert(node, type)) {
        const std::string broken = broken_rule(key, *value);
        if (!broken.empty()) {
          throw ConfigError(where + name + broken);
        }
        settings_.entries_[name] = {std::move(*value), place,
                                    is_override_ ? override_order_ : order_of(node)};
        return;
      }
    }
    throw ConfigError(where + name + " = " + show(node) + ", must be " + describe_allowed(key));
  }

  static int64_t order_of(const toml::node& node) {
    const auto& begin = node.source().begin;
    constexpr int64_t kLineStride = 1 << 20;
    return static_cast<int64_t>(begin.line) * kLineStride + static_cast<int64_t>(begin.column);
  }

  // A key's line is where its name stands; a table opened by a header has only its own.
  std::string place(const toml::node& node, const toml::key& key) const {
    if (is_override_) {
      return kOverride;
    }
    const auto key_line = key.source().begin.line;
    const auto line = key_line != 0 ? key_line : node.source().begin.line;
    return settings_.file_ + ":" + std::to_string(line);
  }

  // As in TOML: parts with other characters than a bare key's are quoted.
  static std::string joined(const std::vector<std::string>& path) {
    std::string name;
    for (const std::string& part : path) {
      name += (name.empty() ? "" : ".") + (is_bare(part) ? part : to_toml(Value(part)));
    }
    return name;
  }

  bool is_known_prefix(const std::vector<std::string>& path) const {
    return std::any_of(settings_.keys_.begin(), settings_.keys_.end(), [&](const Key& key) {
      return fill_star(key.name, path, path.size()).has_value();
    });
  }

  bool has_keys_under(const std::vector<std::string>& path) const {
    return std::any_of(settings_.keys_.begin(), settings_.keys_.end(), [&](const Key& key) {
      return split_dots(key.name).size() > path.size() && fill_star(key.name, path, path.size());
    });
  }

  [[noreturn]] void unknown(const std::string& where, const std::vector<std::string>& path,
                            const std::string& name) const {
    std::vector<std::string> known;
    std::vector<std::string> siblings;
    for (const Key& key : settings_.keys_) {
      const std::string filled = *fill_star(key.name, path, 0);
      known.push_back(filled);
      const std::vector<std::string> parts = split_dots(filled);
      if (fill_star(key.name, path, path.size() - 1) && parts.size() >= path.size() &&
          parts[path.size() - 1] != "*" &&
          std::find(siblings.begin(), siblings.end(), parts[path.size() - 1]) == siblings.end()) {
        siblings.push_back(parts[path.size() - 1]);
        known.push_back(joined({parts.begin(), parts.begin() + static_cast<int64_t>(path.size())}));
      }
    }
    const std::string near = nearest(name, known);
    std::string advice;
    for (const std::string& sibling : siblings) {
      advice += (advice.empty() ? "; known here: " : ", ") + sibling;
    }
    throw ConfigError(where + "unknown key " + shorten(name) +
                      (near.empty() ? advice : "; did you mean " + near + "?"));
  }

  Settings& settings_;
  bool is_override_ = false;
  int64_t override_order_ = 0;
};

Settings Settings::parse(std::string_view toml, const std::string& file, std::vector<Key> keys,
                         const std::vector<std::string>& overrides) {
  Settings settings;
  settings.file_ = file;
  settings.keys_ = std::move(keys);
  SettingsReader reader(settings);
  reader.read_file(toml);
  for (const std::string& text : overrides) {
    reader.read_override(text);
  }
  return settings;
}

const Key* Settings::find_key(const std::string& name) const {
  const std::vector<std::string> path = split_dots(name);
  for (const Key& key : keys_) {
    if (split_dots(key.name).size() == path.size() && fill_star(key.name, path, path.size())) {
      return &key;
    }
  }
  return nullptr;
}

namespace {
Value parse_fallback(const Key& key, const std::string& fallback) {
  const toml::table table = toml::parse("value = " + fallback);
  for (const KeyType type : key.types) {
    if (std::optional<Value> value = convert(*table.get("value"), type)) {
      return *value;
    }
  }
  throw std::logic_error("settings: the default of " + key.name + " has none of its types");
}
}  // namespace

Value Settings::value(const std::string& name) const {
  const auto entry = entries_.find(name);
  if (entry != entries_.end()) {
    return entry->second.value;
  }
  const Key* key = find_key(name);
  if (key == nullptr || key->fallback.empty()) {
    throw std::logic_error("settings: " + name + " is not given and has no default");
  }
  return parse_fallback(*key, fallback(*key));
}

const std::string& Settings::fallback(const Key& key) const {
  return !key.other_fallback.empty() && is_met(key.other_with) ? key.other_fallback : key.fallback;
}

bool Settings::is_met(const Condition& condition) const {
  const std::vector<std::string>& values = condition.values;
  return condition.key.empty() ||
         std::find(values.begin(), values.end(), get<std::string>(condition.key)) != values.end();
}

bool Settings::given_under(const std::string& prefix) const {
  const auto next = entries_.lower_bound(prefix + ".");
  return next != entries_.end() && next->first.rfind(prefix + ".", 0) == 0;
}

std::vector<std::string> Settings::names_under(const std::string& prefix) const {
  const size_t depth = split_dots(prefix).size();
  std::map<std::string, int64_t> first_order;
  for (const auto& [name, entry] : entries_) {
    const std::vector<std::string> parts = split_dots(name);
    if (parts.size() > depth + 1 && name.rfind(prefix + ".", 0) == 0) {
      const auto [item, added] = first_order.emplace(parts[depth], entry.order);
      item->second = std::min(item->second, entry.order);
    }
  }
  std::vector<std::string> names;
  for (const auto& [name, order] : first_order) {
    names.push_back(name);
  }
  std::stable_sort(names.begin(), names.end(),
                   [&](const auto& a, const auto& b) { return first_order[a] < first_order[b]; });
  return names;
}

std::vector<std::string> Settings::keys_in(const std::string& table) const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) {
    if (name.rfind('.') == table.size() && name.rfind(table, 0) == 0) {
      names.push_back(name);
    }
  }
  return names;
}

bool Settings::is_override(const std::string& name) const {
  return given(name) && entries_.at(name).where == kOverride;
}

std::string Settings::label(const std::string& name) const {
  return name == "target" && is_override(name)
             ? ""
             : "config: " + entries_.at(name).where + ": " + name + ": ";
}

void Settings::drop_table(const std::string& prefix) {
  std::erase_if(entries_, [&](const auto& item) { return item.first.rfind(prefix + ".", 0) == 0; });
}

void Settings::fail(const std::string& name, const std::string& why) const {
  const auto entry = entries_.find(name);
  if (entry == entries_.end()) {
    throw ConfigError("config: " + file_ + ": " + name + " " + why);
  }
  throw ConfigError("config: " + entry->second.where + ": " + name + " = " +
                    shorten(to_toml(entry->second.value)) + ", " + why);
}

void Settings::fail_whole(const std::string& why) const {
  throw ConfigError("config: " + file_ + ": " + why);
}

std::map<std::string, std::string> Settings::resolved() const {
  std::map<std::string, std::string> all;
  for (const Key& key : keys_) {
    const bool has_table = !key.with_table || given_under(key.name.substr(0, key.name.find('.')));
    if (!key.fallback.empty() && has_table && is_met(key.only_with)) {
      all[key.name] = to_toml(value(key.name));
    }
  }
  for (const auto& [name, entry] : entries_) {
    all[name] = to_toml(entry.value);
  }
  return all;
}

std::map<std::string, std::string> Settings::identity() const {
  std::map<std::string, std::string> all = resolved();
  std::erase_if(all, [this](const auto& item) { return !find_key(item.first)->changes_result; });
  return all;
}

std::string Settings::resolved_toml() const {
  std::map<std::string, std::vector<std::string>> tables;  // "" first: top-level keys
  for (const auto& [name, text] : resolved()) {
    const size_t dot = name.rfind('.');
    const bool nested = dot != std::string::npos;
    tables[nested ? name.substr(0, dot) : ""].push_back((nested ? name.substr(dot + 1) : name) +
                                                        " = " + text + "\n");
  }
  std::vector<std::string> order = {""};
  for (const std::string prefix : {"model", "tapestry.window"}) {  // in the order of the file
    for (const std::string& name : names_under(prefix)) {
      const std::string table = prefix + "." + name;
      order.push_back(table);
      for (const auto& item : tables) {  // [model.NAME.inputs]
        if (item.first.rfind(table + ".", 0) == 0) {
          order.push_back(item.first);
        }
      }
    }
  }
  for (const auto& item : tables) {
    if (std::find(order.begin(), order.end(), item.first) == order.end()) {
      order.push_back(item.first);
    }
  }
  std::string out;
  for (const std::string& table : order) {
    out += table.empty() ? "" : "\n[" + table + "]\n";
    for (const std::string& line : tables[table]) {
      out += line;
    }
  }
  return out;
}

}  // namespace motet::detail
