"""Takes page templates and lists of class names, which lie beside the package, into it.

pyproject.toml says everything else, and has no way to say this.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["publisher*"]), "publisher.templates", "publisher.data"],
    package_dir={"publisher.templates": "templates", "publisher.data": "data"},
    package_data={
        "publisher": ["py.typed"],
        "publisher.templates": ["*/*"],
        "publisher.data": ["*"],
    },
)
