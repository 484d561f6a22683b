"""Kernels as other kernels call them: compiled no further than their callers need.

Numba makes of every function that compiled code calls what a caller in Python would need: two wrappers, which take
arguments apart and are optimised like the rest, and machine code. A kernel inside a kernel has no such caller: its
code is copied into that of the kernel which Python calls, and made machine code there. So it is kept as what LLVM
links, and optimised in earnest once, where it ends up.

This rests on numba's insides: `emp.core.numba.inner` asks for it with releases that were tried alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, CompileResult, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

# numba has no types for these
_Library: Any = JITCodeLibrary
_Results: Any = CompileResultCacheImpl
_Cache: Any = FunctionCache
_Lowering: Any = NativeLowering
_Compiler: Any = CompilerBase
_new_result: Any = CompileResult
_pipeline: Any = DefaultPassBuilder.define_nopython_pipeline
_parse_assembly: Any = llvm.parse_assembly
_parse_bitcode: Any = llvm.parse_bitcode
_njit: Any = njit
_register: Any = register_pass


class _Environments(NamedTuple):
    """What numba takes for the code generator where it tells compiled code of the Python objects that it needs."""

    codegen: Any

    def set_env(self, name: str, env: Any) -> None:
        """Give them the place that the callers' copies will find, although there is no code beside it yet.

        An error whose words are known at run time alone is made with their help; few kernels have one.
        """
        place = _parse_assembly(f'@"{name}" = common global i64 0\n')
        place.data_layout = self.codegen._data_layout
        self.codegen._add_module(place)
        self.codegen._engine.finalize_object()
        self.codegen.set_env(name, env)


class InnerLibrary(_Library):
    """The code of one kernel, ready to be linked into a caller's."""

    @property
    def codegen(self) -> Any:
        """For `set_env` alone, which is all that is asked of it from outside."""
        return _Environments(self._codegen)

    def _optimize_final_module(self) -> None:
        """Only the cheap passes: the others run where this is linked into."""
        passes, builder = self._codegen._module_pass_manager(
            loop_vectorize=False, slp_vectorize=False, opt=self._codegen._opt_level, cost="cheap"
        )
        passes.run(self._final_module, builder)

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """0: nobody calls it but through a caller's own copy."""
        return 0

    def serialize_using_object_code(self) -> tuple[str, bytes]:
        """What a cache keeps of it."""
        self._ensure_finalized()
        return self.name, self._get_module_for_linking().as_bitcode()


def _read_library(codegen: Any, name: str, bitcode: bytes) -> InnerLibrary:
    library = InnerLibrary(codegen, name)
    library._final_module = _parse_bitcode(bitcode)
    library._finalize_final_module()
    return library


class _InnerResults(_Results):
    """What a cache keeps of an inner kernel, and makes of it again."""

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        """As `CompileResult._rebuild`, with a library of ours."""
        (name, bitcode), described, env, signature, objectmode, lifted, annotation, reload_init, envs = (
            payload
        )
        for function in reload_init:
            function()
        library = _read_library(target_context.codegen(), name, bitcode)
        entry = target_context.get_executable(library, described, env)
        return _new_result(
            target_context=target_context,
            typing_context=target_context.typing_context,
            library=library,
            environment=env,
            entry_point=entry,
            fndesc=described,
            type_annotation=annotation,
            signature=signature,
            objectmode=objectmode,
            lifted=lifted,
            typing_error=None,
            call_helper=None,
            metadata=None,
            reload_init=reload_init,
            referenced_envs=envs,
        )


class InnerCache(_Cache):
    """Numba's cache of one inner kernel."""

    _impl_class = _InnerResults


@_register(mutates_CFG=True, analysis_only=False)
class _InnerLowering(_Lowering):
    """Numba's last pass, into a library of ours."""

    _name = "inner_lowering"

    def run_pass(self, state: Any) -> bool:
        if state.library is None:
            state.library = InnerLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        done: bool = super().run_pass(state)
        return done


class InnerCompiler(_Compiler):
    """Numba's passes, the last of them ours."""

    def define_pipelines(self) -> list[Any]:
        """What numba runs, in order."""
        passes: Any = _pipeline(self.state)
        passes.passes = [
            (_InnerLowering if one is NativeLowering else one, why) for one, why in passes.passes
        ]
        passes.finalize()
        return [passes]


INNER: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": InnerCompiler}
"""Of a function that only kernels call: for `njit`, and for `overload` as `jit_options`."""


def inner(function: Callable[..., Any], **options: Any) -> Any:
    """A function compiled for callers that are compiled themselves."""
    return _njit(**options, **INNER)(function)
