"""Completion for bash and zsh, generated from the declarations of applets and options.

Neither script starts a program: options are written into it, and names of images are found by globs. The one for
bash needs no bash-completion.
"""

from __future__ import annotations

from collections.abc import Iterator
from string import Template

from ltsp.services.snippet import SNIPPETS
from ltsp.settings.applets import APPLETS, LtspOptions
from ltsp.settings.option import Argument, DirectoryPath, FilePath, Option, declared_options

_BASH = Template(r"""# bash completion for ltsp

# The long options of an applet, or those before it.
_ltsp_options() {
    case $$1 in
$options
    esac
}

# Whether an option takes the next word: applet, a slash, the option.
_ltsp_takes_value() {
    case $$1 in
$required
            return 0 ;;
    esac
    return 1
}

# What an option may be followed by: applet, a slash, the option; the word so far; base directory; image.
_ltsp_values() {
    case $$1 in
$values
    esac
}

_ltsp_directories() {
    compopt -o filenames 2>/dev/null
    compgen -d -- "$$1"
}

_ltsp_files() {
    compopt -o filenames 2>/dev/null
    compgen -f -- "$$1"
}

# Chroots, virtual machine disks and images below a base directory.
_ltsp_images() {
    local path
    for path in "$$2"/*/proc "$$2"/*.img "$$2"/images/*.img; do
        [ -e "$$path" ] || continue
        path=$${path%/proc}
        path=$${path##*/}
        path=$${path%.img}
        case $$path in
            "$$1"*) printf '%s\n' "$$path" ;;
        esac
    done
}

_ltsp_versions() {
    local path
    for path in "$$2/images/.versions/$$3"/*/; do
        [ -d "$$path" ] || continue
        path=$${path%/}
        path=$${path##*/}
        case $$path in
            "$$1"?*) printf '%s\n' "$$path" ;;
        esac
    done
}

_ltsp() {
    local cur=$${COMP_WORDS[COMP_CWORD]} base=$${BASE_DIR:-/srv/ltsp}
    local applet='' image='' option='' last='' ended='' word letters i
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=$${COMP_WORDS[i]}
        if [ "$$word" = = ]; then # readline makes a word of the equals sign
            option=$$last
        elif [ -n "$$option" ]; then
            case $$applet/$$option in
                /-b | /--base-dir) base=$$word ;;
            esac
            option=''
        elif [ -z "$$ended" ] && [ "$$word" = -- ]; then
            ended=1
        elif [ -z "$$ended" ] && [[ $$word == --* ]]; then
            last=$$word
            _ltsp_takes_value "$$applet/$$word" && option=$$word
        elif [ -z "$$ended" ] && [[ $$word == -?* ]]; then
            letters=$${word#-}
            while [ -n "$$letters" ]; do
                if _ltsp_takes_value "$$applet/-$${letters:0:1}"; then
                    [ "$${#letters}" -eq 1 ] && option=-$$letters
                    [ "$$applet/$${letters:0:1}" = /b ] && [ "$${#letters}" -gt 1 ] && base=$${letters:1}
                    break
                fi
                letters=$${letters:1}
            done
        elif [ -z "$$applet" ]; then
            applet=$$word
            ended=''
        else
            image=$$word
        fi
    done
    if [ "$$cur" = = ]; then
        option=$$last
        cur=''
    fi
    if [ -n "$$option" ]; then
        mapfile -t COMPREPLY < <(_ltsp_values "$$applet/$$option" "$$cur" "$$base" "$$image")
    elif [ -z "$$ended" ] && [[ $$cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$$(_ltsp_options "$$applet")" -- "$$cur")
        [[ $${#COMPREPLY[@]} -eq 1 && $${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    elif [ -z "$$applet" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$applets" -- "$$cur")
    elif [[ $$cur == [./~]* ]]; then
        mapfile -t COMPREPLY < <(_ltsp_files "$$cur")
        compopt -o filenames 2>/dev/null
    else
        mapfile -t COMPREPLY < <(_ltsp_operands "$$applet" "$$cur" "$$base")
    fi
    return 0
}

_ltsp_operands() {
    case $$1 in
        $with_operands) _ltsp_images "$$2" "$$3" | sort -u ;;
        dhcp-snippet) compgen -W '$kinds' -- "$$2" ;;
    esac
}

complete -F _ltsp ltsp
""")

_ZSH = Template(r"""#compdef ltsp

_ltsp_images() {
    local base=$${BASE_DIR:-/srv/ltsp}
    local -a names
    names=($$base/*/proc(N:h:t) $$base/*.img(N:t:r) $$base/images/*.img(N:t:r))
    compadd -a names
    _files
}

_ltsp() {
    local context state state_descr line
    local -A opt_args
    _arguments -C -S \
$options
        '1:applet:->applet' \
        '*:: :->arguments'
    case $$state in
        applet)
            local -a applets
            applets=(
$applets
            )
            _describe -t applets applet applets ;;
        arguments)
            case $$line[1] in
$arguments
            esac ;;
    esac
}

_ltsp "$$@"
""")


def _options_by_applet() -> list[tuple[str, tuple[Option, ...]]]:
    """The options before the applet under an empty name, and those of each applet."""
    return [
        ("", declared_options(LtspOptions)),
        *((name, declared_options(applet.options)) for name, applet in APPLETS.items()),
    ]


def bash() -> str:
    """For /usr/share/bash-completion/completions/ltsp."""
    options, required, values = [], [], []
    for scope, every in _options_by_applet():
        names = " ".join(f"--{each.long}{'=' if each.argument is Argument.REQUIRED else ''}" for each in every)
        options.append(f"        '{scope}') printf '%s\\n' '{names}' ;;")
        for each in every:
            spellings = [f"{scope}/--{each.long}", *([f"{scope}/-{each.short}"] if each.short else [])]
            if each.argument is Argument.REQUIRED:
                required += spellings
            if command := _bash_values(each):
                values.append(f"        {' | '.join(spellings)}) {command} ;;")
    return _BASH.substitute(
        options="\n".join(options),
        required=" | \\\n".join(f"        {each}" for each in required) + ")",
        values="\n".join(values),
        applets=" ".join(APPLETS),
        kinds=" ".join(SNIPPETS),
        with_operands=" | ".join(name for name, applet in APPLETS.items() if "IMAGE" in applet.operands),
    )


def _bash_values(option: Option) -> str:
    """The command that prints what may follow an option; empty if nothing can be proposed."""
    if option.values:
        return f"compgen -W '{' '.join(option.values)}' -- \"$2\""
    match option.kind:
        case DirectoryPath():
            return '_ltsp_directories "$2"'
        case FilePath():
            return '_ltsp_files "$2"'
    match option.kind.metavar:
        case "VERSION":
            return '_ltsp_versions "$2" "$3" "$4"'
        case "APPLET":
            return f"compgen -W '{' '.join(APPLETS)}' -- \"$2\""
    return ""


def zsh() -> str:
    """For /usr/share/zsh/site-functions/_ltsp."""
    arguments = []
    for name, applet in APPLETS.items():
        lines = [
            *_zsh_options(declared_options(applet.options)),
            *(["'*:image:_ltsp_images'"] if "IMAGE" in applet.operands else []),
            *([f"'1:kind:({' '.join(SNIPPETS)})'"] if applet.operands == "KIND" else []),
        ]
        joined = " \\\n".join(f"                        {line}" for line in lines)
        arguments.append(f"                {name})\n                    _arguments -S \\\n{joined} ;;")
    return _ZSH.substitute(
        options="\n".join(f"        {line} \\" for line in _zsh_options(declared_options(LtspOptions))),
        applets="\n".join(f"                {_quote(f'{each.name}:{each.summary}')}" for each in APPLETS.values()),
        arguments="\n".join(arguments),
    )


def _zsh_options(options: tuple[Option, ...]) -> Iterator[str]:
    """Specifications for _arguments. zshcompsys(1)"""
    for option in options:
        summary = option.summary.replace("[", "").replace("]", "").replace(":", "\\:")
        value = f":{option.kind.metavar.replace(':', '')}:{_zsh_values(option)}"
        short, long = {
            Argument.NONE: ("", ""),
            Argument.REQUIRED: ("+", "="),
            Argument.OPTIONAL: ("-", "=-"),
        }[option.argument]
        rest = (
            f"[{summary}]"
            + {Argument.NONE: "", Argument.REQUIRED: value, Argument.OPTIONAL: f":{value}"}[option.argument]
        )
        if option.is_repeatable:
            yield _quote(f"*--{option.long}{long}{rest}")
        elif option.short:
            both = _quote(f"(-{option.short} --{option.long})")
            yield f"{both}{{-{option.short}{short},--{option.long}{long}}}{_quote(rest)}"
        else:
            yield _quote(f"--{option.long}{long}{rest}")


def _zsh_values(option: Option) -> str:
    if option.values:
        return f"({' '.join(option.values)})"
    match option.kind:
        case DirectoryPath():
            return "_directories"
        case FilePath():
            return "_files"
    return f"({' '.join(APPLETS)})" if option.kind.metavar == "APPLET" else " "


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
