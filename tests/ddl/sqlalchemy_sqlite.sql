CREATE TABLE departments (
	id INTEGER NOT NULL,
	name VARCHAR(50) NOT NULL,
	PRIMARY KEY (id),
	UNIQUE (name)
);

CREATE TABLE employees (
	id INTEGER NOT NULL,
	name VARCHAR(50) NOT NULL,
	salary NUMERIC(10, 2),
	hired DATETIME,
	born DATE,
	active BOOLEAN,
	rating FLOAT,
	photo BLOB,
	settings JSON,
	dept_id INTEGER,
	PRIMARY KEY (id),
	FOREIGN KEY(dept_id) REFERENCES departments (id)
);
