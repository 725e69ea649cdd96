CREATE TABLE departments (
	id SERIAL NOT NULL,
	name VARCHAR(50) NOT NULL,
	PRIMARY KEY (id),
	UNIQUE (name)
);

CREATE TABLE employees (
	id SERIAL NOT NULL,
	name VARCHAR(50) NOT NULL,
	salary NUMERIC(10, 2),
	hired TIMESTAMP WITHOUT TIME ZONE,
	born DATE,
	active BOOLEAN,
	rating FLOAT,
	photo BYTEA,
	settings JSON,
	dept_id INTEGER,
	PRIMARY KEY (id),
	FOREIGN KEY(dept_id) REFERENCES departments (id)
);
